"""What ``compile`` refuses beyond ``ast.parse``, as far as it can be told line by line.

CPython finds these errors in its symbol table and its code generator (Python/symtable.c, Python/compile.c). Here each
is found at the first character behind the token that makes it unavoidable. What depends on names that come later
(``nonlocal`` without a binding), on what a comprehension turns out to be, or on the inside of replacement fields is
let through: the final ``compile`` remains.
"""

from __future__ import annotations

from typing import NamedTuple

from validators.lexemes import Token, lexemes
from validators.rules import Version
from validators.scopes import Dead, Level
from validators.statements import Statement

__all__ = ["BEGINNING", "SILENT", "CompileRules", "Context", "NoRules", "Ruling"]

_LONGEST = 20_000  # characters of an open line that are looked at again with every text behind it


class Context(NamedTuple):
    """Everything that the rules know about the text so far. A value."""

    line: str
    """The open logical line."""
    levels: tuple[Level, ...]
    opened: Level | None
    """The block that the next line begins."""
    early: bool
    """`from __future__` may still follow."""


SILENT = Context("", (), None, False)
"""Behind a place that broke the rules: nothing more is said."""
BEGINNING = Context("", (Level(0, "module"),), None, True)


class Ruling(NamedTuple):
    """How much of a text the rules let pass, what they know then, and why they stopped."""

    accepted: int
    context: Context
    reason: str | None


class NoRules:
    """Lets everything pass."""

    def read(self, context: Context, text: str) -> Ruling:
        return Ruling(len(text), context, None)

    def complete(self, context: Context, text: str) -> bool:
        return True


class CompileRules:
    """The rules of one version."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._nested = version >= (3, 12)

    def read(self, context: Context, text: str) -> Ruling:
        """``text``, which the parser has accepted behind ``context``."""
        whole, before, at, begin = context.line + text, len(context.line), 0, context
        if not context.levels or (len(whole) > _LONGEST and "\n" not in text and "\r" not in text):
            return Ruling(len(text), context._replace(line=whole if context.levels else ""), None)
        while at < len(whole):
            tokens, ended = lexemes(whole, self._nested, at)
            finished = tokens if ended else _finished(tokens, whole)
            try:
                after = self._line(context, whole, finished, ended, tokens)
            except Dead as dead:
                kept = max(dead.at - before, 0)
                return Ruling(kept, self.read(begin, text[:kept]).context if kept else begin, dead.reason)
            if not ended:
                return Ruling(len(text), context._replace(line=whole[at:]), None)
            context, at = after, tokens[-1].end
        return Ruling(len(text), context._replace(line=""), None)

    def complete(self, context: Context, text: str) -> bool:
        """Whether the rules let the program pass that ends in ``text``."""
        ending = text if text.endswith("\n") else text + "\n"
        return self.read(context, ending).accepted == len(ending)

    def _line(self, context: Context, text: str, tokens: list[Token], ended: bool, seen: list[Token]) -> Context:
        if not seen:
            return context
        column = _column(text, seen[0].start)
        levels = context.levels
        if context.opened is not None:
            levels = (*levels, context.opened._replace(column=column))
        while len(levels) > 1 and column < levels[-1].column:
            levels = levels[:-1]
        statement = Statement(self._version, levels, context.early, seen[len(tokens) :])
        statement.read(tokens)
        return Context("", tuple(statement.levels), statement.opened if ended else None, statement.early)


def _finished(tokens: list[Token], text: str) -> list[Token]:
    """Those that a following character cannot change."""
    if tokens and tokens[-1].end == len(text) and tokens[-1].text[-1] not in "()[]{},;~'\"":
        return tokens[:-1]
    return tokens


def _column(text: str, end: int) -> int:
    column = 0
    for character in text[max(text.rfind("\n", 0, end), text.rfind("\r", 0, end)) + 1 : end]:
        column = (column // 8 + 1) * 8 if character == "\t" else 0 if character == "\f" else column + 1
    return column
