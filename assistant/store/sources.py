"""What a place that models come from promises.

A download is one growing file, the part: always a true beginning of the wanted file, whichever source wrote it. So an
interrupted download goes on where it stopped, and a second source goes on where the first one failed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from assistant.store.report import Reporter

BLOCK = 1 << 18
"""Bytes handled at a time."""


class SourceFailed(Exception):
    """This source cannot deliver the file; another one may. The message is one line."""


class Source(Protocol):
    """A place to fetch one file from."""

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    @property
    def origin(self) -> str:
        """Where exactly the file is, for the notice kept beside it."""
        ...

    def room(self) -> int:
        """Disk space in bytes needed on the way, beyond the file itself."""
        ...

    def fetch(self, part: Path, size: int, report: Reporter, what: str) -> None:
        """Make `part` grow from what it has to `size` bytes.

        Raises SourceFailed where that is impossible, and OSError where the disk refuses. However it ends, `part` is
        left as a beginning to go on from. The caller checks the content.
        """
        ...


def scratch(part: Path) -> Path:
    """The folder for what a source has to keep beside its part; gone once the file is complete."""
    return part.with_suffix(".scratch")


def length(part: Path) -> int:
    """Bytes that are there already, 0 for no file."""
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def cut(part: Path, size: int) -> None:
    """Drop what `part` has beyond `size` bytes."""
    if length(part) > size:
        os.truncate(part, size)


def one_line(text: object, limit: int = 200) -> str:
    """A foreign message, fit for an error line."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
