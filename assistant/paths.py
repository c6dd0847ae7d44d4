"""From what a user names to files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from assistant.errors import UsageProblem


def expanded(names: Iterable[str]) -> Iterator[str]:
    """Files as they are, folders as the *.py below them, patterns as what they match; each sorted.

    A pattern is a name with `*`, `?` or `[` that is no file; `**` stands for any folders. Hidden folders and virtual
    environments are left out of folders. A pattern that matches nothing is a UsageProblem, as is an empty name.
    """
    for name in names:
        if not name:
            raise UsageProblem("a file's name is empty")
        if os.path.isdir(name):
            yield from _below(name)
        elif glob.has_magic(name) and not os.path.exists(name):
            found = [path for path in sorted(glob.glob(name, recursive=True)) if os.path.isfile(path)]
            if not found:
                raise UsageProblem(f"{name}: no file matches")
            yield from found
        else:
            yield name


def _below(name: str) -> Iterator[str]:
    for folder, inner, files in os.walk(name):
        inner[:] = sorted(i for i in inner if i[0] != "." and not Path(folder, i, "pyvenv.cfg").exists())
        yield from (os.path.join(folder, file) for file in sorted(files) if file.endswith(".py"))
