"""The values that every validator returns."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, TypeVar

State = TypeVar("State")


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
