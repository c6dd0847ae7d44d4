"""What the scanner notes on its way for `validators.units`: separators, and where logical lines begin and end."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LineEnd", "LineStart", "Mark", "Separator"]


class Separator(NamedTuple):
    """A comma, colon, closing bracket or line end; kept where it lies less deep than all before it."""

    level: int
    """Frames around it; for a closing bracket those inside it."""
    closes: bool
    """It is a closing bracket."""
    begun: bool
    """Something stood before it in the text that was read."""
    semicolon: bool = False
    """It is a ';' between statements; those are always kept."""


class LineStart(NamedTuple):
    """The first token of a logical line."""

    column: int
    word: str
    finished: bool


class LineEnd(NamedTuple):
    """The end of a logical line."""

    column: int
    outcome: str
    context: str


Mark = Separator | LineStart | LineEnd
