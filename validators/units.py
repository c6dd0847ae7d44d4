"""Where the unit ends that was open when writing began: expression, line, statement, block or function."""

from __future__ import annotations

from typing import NamedTuple

from validators.blocks import REQUIRED, Block
from validators.contracts import Unit
from validators.lines import START, Line
from validators.marks import LineEnd, LineStart, Mark, Separator

__all__ = ["Units"]

_CONTINUES = ("elif", "else", "except", "finally")


class Units(NamedTuple):
    """What was open at the beginning and what of it has been closed since. A value."""

    level: int
    """Frames that were open."""
    owner: int | None
    """Column of the statement that was open; None until a line begins."""
    function: int | None
    """Column of the innermost ``def``."""
    begun: bool = False
    first: bool = True
    """The first logical line goes on."""
    word: str | None = None
    """First word of a line that may still become 'else' or the like."""
    settled: bool = False
    """Whether the expression is closed is decided."""
    closed: frozenset[Unit] = frozenset()

    @staticmethod
    def opened(line: Line, block: Block) -> Units:
        function = block.column if block.body == "def" else None
        each: Block | None = block
        while each is not None and function is None:
            if each.opener == "def" and each.parent is not None:
                function = each.parent.column
            each = each.parent
        return Units(line.frame.level, None if line.kind == START else block.column, function)

    def after(self, text: str, marks: tuple[Mark, ...]) -> Units:
        """What is open behind ``text``, which these marks were found in."""
        units = self
        if units.word is not None:
            units = units._word_grown(text)
        if "\n" in text or "\r" in text:
            units = units._closing("line")
        for mark in marks:
            if isinstance(mark, Separator):
                units = units._separated(mark)
            elif isinstance(mark, LineStart):
                units = units._line_started(mark)
            else:
                units = units._line_ended(mark)
        if not units.begun and text.strip():
            units = units._replace(begun=True)
        return units

    def _closing(self, unit: Unit) -> Units:
        return self if unit in self.closed else self._replace(closed=self.closed | {unit})

    def _separated(self, mark: Separator) -> Units:
        units = self
        if not self.settled and mark.level <= self.level:
            units = units._replace(settled=True)
            if mark.closes or mark.begun or self.begun:
                units = units._closing("expression")
        if mark.semicolon and self.first:
            units = units._closing("statement")
        return units

    def _line_started(self, mark: LineStart) -> Units:
        units = self
        if self.function is not None and mark.column <= self.function:
            units = units._closing("function")
        if self.owner is None:
            return units._replace(owner=mark.column)
        if mark.column < self.owner:
            return units._closing("block")._closing("statement")
        if mark.column > self.owner or (mark.finished and mark.word in _CONTINUES):
            return units
        if not mark.finished and _may_continue(mark.word):
            return units._replace(word=mark.word)
        return units._closing("statement")

    def _word_grown(self, text: str) -> Units:
        length = 0
        while length < len(text) and (text[length].isalnum() or text[length] == "_"):
            length += 1
        word = (self.word or "") + text[:length]
        if length == len(text) and _may_continue(word):
            return self._replace(word=word)
        units = self._replace(word=None)
        return units if word in _CONTINUES and length < len(text) else units._closing("statement")

    def _line_ended(self, mark: LineEnd) -> Units:
        units = self._replace(first=False) if self.first else self
        if self.function is None and mark.outcome.rstrip("+") == "$def":
            units = units._replace(function=mark.column)
        simple = not mark.outcome.endswith("+") and mark.context not in REQUIRED
        return units._closing("statement") if simple and mark.column == self.owner else units


def _may_continue(word: str) -> bool:
    return any(each.startswith(word) for each in _CONTINUES)
