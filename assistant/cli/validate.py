"""`viable validate`: the first place from which nothing valid can follow, file by file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from assistant.document import NotSource, read_bytes
from assistant.errors import UsageProblem
from assistant.examine import Finding, examine, read_source
from assistant.interrupts import read_all
from assistant.paths import expanded
from assistant.progress import Progress
from validators import LEVELS, PythonValidator
from validators.contracts import Validator

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
VERSIONS = tuple(f"3.{minor}" for minor in range(8, 15))
STDIN = "-"


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE|FOLDER]...")
@click.option("--version", "version", metavar="3.N", default=RUNNING, show_default=True, help="Which Python's grammar.")
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default=LEVELS[0],
    show_default=True,
    help="What `ast.parse` refuses, or what `compile` does, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, the valid ones too.")
def command(files: tuple[str, ...], version: str, level: str, as_json: bool) -> int:
    """Say where Python files stop being valid.

    \b
    viable validate app.py             app.py:12:9: invalid syntax
    viable validate src tests          every *.py below these folders
    git show HEAD:app.py | viable validate
    viable validate src --json | jq 'select(.valid | not)'

    The place is the first one from which nothing valid can follow, whatever comes after it. A file
    that only ends too early is told with a text that would close it. Files are read, never run, and
    a file is valid if `ast.parse` accepts it: a `return` outside a function passes. With --level
    compile it does not, nor does what else `compile` refuses.

    Exit code 0 if all are valid, 1 if one is not, 2 if one could not be read.
    """
    validator = _validator(version, level)
    if not files:
        if sys.stdin.isatty():
            raise UsageProblem("name files or folders, or pipe a file in; `viable validate --help` shows how")
        files = (STDIN,)
    paths = list(expanded(files))
    kinds: Counter[str] = Counter()
    with Progress(len(paths), "files") as progress:
        for path in paths:
            try:
                finding = _examine(path, validator, running=version == RUNNING, level=level)
            except UsageProblem as problem:
                kinds["missing"] += 1
                progress.say(_printable(f"viable: {problem}"), err=True)
            else:
                kinds[finding.kind if finding else "valid"] += 1
                for line in _lines(path, finding, as_json):
                    progress.say(line)
            progress.advance()
    if len(paths) != 1:
        click.echo(_summary(kinds), err=True)
    return 2 if kinds["missing"] else 1 if kinds.total() > kinds["valid"] else 0


def _validator(version: str, level: str) -> Validator[Any]:
    if version not in VERSIONS:
        raise UsageProblem(f"--version takes one of {', '.join(VERSIONS)}, not {version!r}")
    return PythonValidator(version=(3, int(version.removeprefix("3."))), level=level)


def _examine(name: str, validator: Validator[Any], *, running: bool, level: str) -> Finding | None:
    data = read_all(sys.stdin.buffer) if name == STDIN else read_bytes(Path(name))
    try:
        text = read_source(data, name)
    except NotSource as problem:
        return Finding("unreadable", problem.line, problem.column, problem.reason)
    return examine(text, validator, running=running, level=level)


def _lines(name: str, finding: Finding | None, as_json: bool) -> Iterator[str]:
    name = "<stdin>" if name == STDIN else name
    if as_json:
        fields = finding._asdict() if finding else dict.fromkeys(Finding._fields)
        yield json.dumps({"file": name, "valid": finding is None, **fields}, ensure_ascii=False)
    elif finding:
        yield _printable(f"{name}:{finding.line}:{finding.column}: {finding.reason}")


def _printable(text: str) -> str:
    """One line that does nothing to a terminal, whatever a file is called or holds."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _summary(kinds: Counter[str]) -> str:
    told = [
        f"{kinds[kind]} {kind}" for kind in ("valid", "invalid", "unfinished", "unreadable", "missing") if kinds[kind]
    ]
    return f"{kinds.total()} files: {', '.join(told) or 'none'}"
