"""What a text validator is, and the values that it answers with.

A validator says how much of a proposed text can still become a valid program, given the text left and right of it.
Its states are values: checking changes nothing, a fork is a second reference, going back is keeping the old state.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

Unit = Literal["expression", "line", "statement", "block", "function"]
"""A piece of a program that can be asked for whole."""

State = TypeVar("State", bound=Hashable)


class Verdict(NamedTuple, Generic[State]):
    """What a check found out about a piece of text."""

    accepted: int
    """Characters of the text that keep the program viable, from its start: 0 to len(text)."""
    state: State
    """The state after exactly those characters."""
    reason: str | None
    """Why the rest was refused, or why it was let through unjudged. For people, never parsed."""


class Problem(NamedTuple):
    """Something in the given text that the validator had to step over."""

    side: Literal["left", "right"]
    """`left`: the prefix is not viable at `offset`. `right`: the suffix is ignored from `offset` on."""
    offset: int
    """Characters from the start of that side's text."""
    line: int
    """Line of `offset` in that side's text, from 1."""
    column: int
    """Characters before `offset` on that line, plus 1."""
    reason: str
    """For people, never parsed."""

    def behind_mark(self) -> Problem:
        """The problem where the side's text has one more character before it, a byte order mark."""
        return self._replace(offset=self.offset + 1, column=self.column + (self.line == 1))


class Validator(Protocol[State]):
    """A text validator."""

    def start(self, prefix: str, suffix: str = "") -> State:
        """The state between `prefix` and `suffix`. Broken text is no error: it is told by `problems`."""
        ...

    def problems(self, state: State) -> tuple[Problem, ...]:
        """Where the texts given to `start` are broken; empty if they are not."""
        ...

    def check(self, state: State, text: str) -> Verdict[State]:
        """How much of `text` may follow. No side effect."""
        ...

    def complete(self, state: State) -> bool:
        """Does left text + accepted text + right text parse as it stands?"""
        ...

    def closing(self, state: State) -> str | None:
        """A short text after which `complete` holds; None where none is known."""
        ...

    def unit_end(self, state: State, unit: Unit) -> bool:
        """Is the unit that was open at `start` closed here?"""
        ...
