"""Indentation and the order of compound statements' parts: which logical line may stand where.

A ``Block`` is an open block with everything around it, as an immutable chain. It knows what its last line was, so it
knows whether an ``else`` may follow, a handler must, or a body is still missing.
"""

from __future__ import annotations

__all__ = ["CONTEXTS", "REQUIRED", "Block", "root", "tail"]

# What the last line of a block was -> the rules that its next line may follow.
CONTEXTS: dict[str, tuple[str, ...]] = {
    "statement": ("line",),
    "if": ("line", "elif_line", "else_line"),
    "loop": ("line", "else_line"),
    "try": ("except_line", "except_star_line", "finally_line"),
    "except": ("line", "except_line", "try_else_line", "finally_line"),
    "except_star": ("line", "except_star_line", "try_else_line", "finally_line"),
    "try_else": ("line", "finally_line"),
    "decorator": ("decorated",),
    "match": ("case_line",),
    "case": ("case_line",),
    "broken": ("line", "elif_line", "except_line", "except_star_line", "try_else_line", "finally_line", "case_line"),
}
# Contexts in which the block cannot end.
REQUIRED = {"try", "decorator", "match"}
# Outcome of a line -> context behind it; the others are 'statement'.
_AFTER = {
    "if": "if", "elif": "if", "loop": "loop", "try": "try", "except": "except", "except_star": "except_star",
    "try_else": "try_else", "decorator": "decorator", "case": "case",
    "broken": "broken",
}  # fmt: skip
MOST_INDENTS = 99
UNKNOWN = 1 << 30  # column of a block that a text begins in
_UNMATCHED = "unindent does not match any outer indentation level"


class Block:
    """``column`` and ``tabbed`` (a tab counted as one) of its lines; ``opener``: the kind of line that opened it.

    ``body``: the kind of line that stands above the next one, where that opens a block.
    """

    __slots__ = ("_after", "_inner", "body", "column", "context", "depth", "opener", "parent", "tabbed")

    def __init__(
        self, column: int, tabbed: int, context: str, body: str, parent: Block | None, opener: str = ""
    ) -> None:
        self.column = column
        self.tabbed = tabbed
        self.context = context
        self.body = body
        self.parent = parent
        self.opener = opener
        self.depth: int = parent.depth + 1 if parent else 0
        self._after: dict[str, Block] = {f"{context}/{body}": self}
        self._inner: dict[tuple[int, int, str], Block] = {}

    def after(self, outcome: str) -> Block | None:
        """The block once a line with this ``$outcome`` has ended; None where that line may open no further block."""
        found = self._after.get(outcome)
        if found is None:
            kind = outcome[1:].rstrip("+")
            body = ""
            if outcome.endswith("+"):
                if self.depth >= MOST_INDENTS:
                    return None
                body = kind
            found = self.with_context(_AFTER.get(kind, "statement"), body)
            self._after[outcome] = found
        return found

    def with_context(self, context: str, body: str) -> Block:
        key = f"{context}/{body}"
        found = self._after.get(key)
        if found is None:
            owner = self._owner()
            found = owner._after.get(key)
            if found is None:
                found = type(self)(self.column, self.tabbed, context, body, self.parent, self.opener)
                found._after[""] = owner
                owner._after[key] = found
            self._after[key] = found
        return found

    def _owner(self) -> Block:
        """The variant of this block that keeps the others, so that equal variants are the same object."""
        return self._after.get("", self)

    def inner(self, column: int, tabbed: int, opener: str) -> Block:
        """The block that a line of kind ``opener`` opens here."""
        key = (column, tabbed, opener)
        found = self._inner.get(key)
        if found is None:
            context = opener if opener in ("match", "broken") else "statement"
            found = self._inner[key] = Block(column, tabbed, context, "", self, opener)
        return found

    def at(self, column: int, tabbed: int) -> tuple[Block | None, str]:
        """The block that a line with this indentation belongs to; None and the reason where there is none."""
        if self.body:
            if column <= self.column and self.column != UNKNOWN:
                return None, "expected an indented block"
            if tabbed <= self.tabbed and self.column != UNKNOWN:
                return None, "inconsistent use of tabs and spaces in indentation"
            return self.with_context(self.context, "").inner(column, tabbed, self.body), ""
        if column > self.column:
            return None, "unexpected indent"
        block = self
        while column < block.column and block.parent is not None:
            if block.context in REQUIRED:
                return None, block.missing()
            block = block.parent
        if column < block.column:
            return block.outer(column, tabbed)
        if column != block.column:
            return None, _UNMATCHED
        if tabbed != block.tabbed:
            return None, "inconsistent use of tabs and spaces in indentation"
        return block, ""

    def outer(self, column: int, tabbed: int) -> tuple[Block | None, str]:
        """The block around the outermost one, for a line that stands further left; a module has none."""
        return None, _UNMATCHED

    def recovered(self, column: int, tabbed: int) -> Block:
        """The block in which a line with this indentation is taken to stand behind a broken line."""
        block = self
        while block.parent is not None and (
            column < block.column or (column == block.column) > (tabbed == block.tabbed)
        ):
            block = block.parent
        if column > block.column:
            return block.with_context("broken", "").inner(column, max(tabbed, block.tabbed + 1), "broken")
        return block.with_context("broken", "")

    def closed(self) -> bool:
        """Whether the file may end here."""
        if self.body:
            return False
        block: Block | None = self
        while block is not None:
            if block.context in REQUIRED:
                return False
            block = block.parent
        return True

    def missing(self) -> str:
        return {
            "try": "expected 'except' or 'finally' block",
            "decorator": "expected a class or function after the decorator",
        }.get(self.context, "expected a 'case' block")


class Tail(Block):
    """The outermost block of a text whose beginning is missing: it may stand in any blocks, begun in any way."""

    __slots__ = ()

    def outer(self, column: int, tabbed: int) -> tuple[Block | None, str]:
        context = "broken"
        if self.context in REQUIRED:
            if self.column != UNKNOWN:
                return None, self.missing()
            context = self.context  # the first line with a column stands beside what was begun before
        key = (column, tabbed, context)
        found = self._inner.get(key)
        if found is None:
            found = self._inner[key] = Tail(column, tabbed, context, "", None)
        return found, ""


def tail() -> Block:
    """Where a text begins of which nothing is known."""
    return Tail(UNKNOWN, UNKNOWN, "broken", "", None)


def root() -> Block:
    """The module's own block."""
    return Block(0, 0, "statement", "", None)
