"""A program with everything taken out that no longer matters to what may follow.

Of the statements before the cursor only those still count whose blocks are open, and the last statement of each open
block, which an `else` or `except` may continue. The rest is replaced by `pass`.
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

_COMPOUND = re.compile(r"(?:async|class|def|elif|else|except|finally|for|if|try|while|with|case|match)\b|@", re.ASCII)
_CONTINUES = re.compile(r"(?:elif|else|except|finally)\b", re.ASCII)
_FUTURE = re.compile(r"\bbarry_as_FLUFL\b", re.ASCII)
_INDENTATION = re.compile(r"(?:[ \t\f]|\\(?:\r\n?|\n))*")
_IGNORES = (3, 9) <= sys.version_info < (3, 10)
"""In 3.9 a line whose indentation has a backslash in it belongs to the block of the line before it."""
_BEGINS = sys.version_info < (3, 10)
"""A line begins at the first backslash in its indentation."""
FLUFL = "from __future__ import barry_as_FLUFL\n"
"""Changes the grammar (PEP 401), from where it stands to the end of the file."""


class Level(NamedTuple):
    """The last statement of an open block."""

    width: tuple[int, int]
    """Columns of its indentation, with tabs to multiples of 8 and with tabs of 1: CPython compares both."""
    indentation: str
    statement: str
    """The statement with its closed blocks cut down, its first line's indentation included."""

    pending: bool = False
    """Is it a decorator, so that the next line belongs to the same statement?"""


class Outline(NamedTuple):
    """What still counts of the finished logical lines."""

    levels: tuple[Level, ...] = ()
    flufl: bool = False

    @property
    def text(self) -> str:
        return (FLUFL if self.flufl else "") + "".join(level.statement for level in self.levels)

    def after(self, line: str) -> Outline:
        """The outline after one more logical line, which ends in its newline and is not blank."""
        indentation, code = split(line)
        width = columns(indentation)
        if _IGNORES and "\\" in indentation:
            width = self.levels[-1].width if self.levels else (0, 0)
        flufl = self.flufl or bool(_FUTURE.search(line) and code.startswith("from"))
        kept = line if _COMPOUND.match(code) else indentation + "pass\n"
        levels = list(self.levels)
        while levels and levels[-1].width > width:
            levels = fold(levels)
        if levels and levels[-1].width == width:
            top = levels.pop()
            if _CONTINUES.match(code) or top.pending:
                indentation, kept = top.indentation, top.statement + kept
        return Outline((*levels, Level(width, indentation, kept, code.startswith("@"))), flufl)


def fold(levels: list[Level]) -> list[Level]:
    """The levels after the last one has been closed by a dedent: what it was becomes part of the one around it."""
    *outer, inner = levels
    if not outer:
        return outer
    is_case = inner.statement.lstrip(" \t\f").startswith("case")
    body = inner.statement if is_case else inner.indentation + "pass\n"
    *rest, top = outer
    return [*rest, top._replace(statement=top.statement + body)]


def split(line: str) -> tuple[str, str]:
    """A line's indentation, backslash-newlines included, and the rest."""
    found = _INDENTATION.match(line)
    assert found is not None
    return found[0], line[found.end() :]


def columns(indentation: str) -> tuple[int, int]:
    """Both widths of an indentation, in columns, as CPython's tokenizer counts them."""
    column = other = joined = 0
    if _BEGINS:
        indentation = indentation.split("\\")[0]
    for character in indentation:
        if character == "\t":
            column = column // 8 * 8 + 8
            other += 1
        elif character == "\f":
            column = other = 0
        elif character == "\\":
            joined = joined or column
        elif character == " ":
            column += 1
            other += 1
    return (joined, joined) if joined else (column, other)
