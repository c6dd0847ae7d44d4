"""The hand-made snippets that the tests hold to every interpreter. They are in the source tree only."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

Version = tuple[int, int]
VERSIONS: tuple[Version, ...] = tuple((3, minor) for minor in range(8, 15))
"""What the validator knows."""
_SIGNS = str.maketrans({"↵": "\n", "⇥": "\t", "␍": "\r", "␌": "\f", "␀": "\0"})
_DATA = Path(__file__).resolve().parents[2] / "tests" / "validators" / "data"
LATE = "dead before CPython notices"
"""The category whose texts the reference gives up a little later than it could."""


class Bad(NamedTuple):
    """A text that does not parse."""

    category: str
    text: str
    dead: int
    """Where the first character stands at which nothing can follow."""
    mended: str
    """A text that parses and begins with text[:dead]."""
    versions: tuple[Version, ...]


class Valid(NamedTuple):
    """A text that parses on these versions alone."""

    category: str
    text: str
    versions: tuple[Version, ...]


@cache
def bad() -> tuple[Bad, ...]:
    """Texts that do not parse."""
    return _marked("bad.txt")


@cache
def compiled() -> tuple[Bad, ...]:
    """Texts that parse and do not compile."""
    return _marked("compile.txt")


def _marked(name: str) -> tuple[Bad, ...]:
    found = []
    for category, (marked, ending, *versions) in _lines(name):
        before, dead, after = marked.partition("¦")
        assert dead, marked
        found.append(Bad(category, before + after, len(before), before + ending, _range(versions)))
    return tuple(found)


@cache
def valid() -> tuple[Valid, ...]:
    return tuple(Valid(category, text, _range(versions)) for category, (text, *versions) in _lines("valid.txt"))


def _lines(name: str) -> list[tuple[str, list[str]]]:
    category, found = "", []
    if not (_DATA / name).exists():
        return []
    for line in (_DATA / name).read_text(encoding="utf-8").split("\n"):
        if line.startswith("== "):
            category = line[3:]
        elif line and category:
            text, *columns = line.translate(_SIGNS).split(" ‖")
            found.append((category, [text, *(column[1:] for column in columns)]))
    return found


def _range(column: list[str]) -> tuple[Version, ...]:
    first, _, last = (column[0].strip() if column else "").partition("..")
    low = int(first.split(".")[1]) if first else VERSIONS[0][1]
    high = int(last.split(".")[1]) if last else VERSIONS[-1][1]
    return tuple(version for version in VERSIONS if low <= version[1] <= high)
