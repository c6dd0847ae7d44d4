"""One turn of the model: what it writes, block by block, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from assistant.completion import Cancel, Completion, Request
from assistant.repl.contracts import Session
from assistant.repl.lines import indentation, unit_end

if TYPE_CHECKING:
    from assistant.session import Chunk

UNIT_ENDED = "unit"
"""Finish reason of a turn that ended with the unit it wrote."""


class Block(NamedTuple):
    """One pass of the model."""

    text: str
    """What it added."""
    tokens: int
    drafted: int
    """Tokens proposed beforehand."""
    viable: int
    """Of those, how many the validator let through."""
    accepted: int
    """Of those, how many the model would have chosen itself."""
    avoided: int
    """Tokens that the model preferred and the validator refused."""

    @property
    def fallback(self) -> bool:
        """Was a part of the draft refused, so that a single token took its place?"""
        return self.accepted < self.drafted


@dataclass(frozen=True)
class Turn:
    """What came of a turn."""

    completion: Completion
    shown: str
    """What was shown while it was written; the completion's text may be shorter, or end otherwise."""
    blocks: tuple[Block, ...]
    indent: str = ""
    """White space with which the model would have begun the next unit."""

    @property
    def cut(self) -> str:
        """The end of what was shown that is not kept as it was."""
        kept = self.completion.text
        different = (i for i, (a, b) in enumerate(zip(self.shown, kept, strict=False)) if a != b)
        return self.shown[next(different, len(kept)) :]


def take_turn(
    session: Session, before: str, request: Request, cancel: Cancel, show: Callable[[str], None], *, whole_unit: bool
) -> Turn:
    """Let the model continue `before`, showing what it writes.

    The session ends with the unit that the request names. Where it names none, `whole_unit` ends with a block or a
    paragraph, which is a guess by lines.
    """
    guessed = whole_unit and request.unit in (None, "none")
    streamed = shown = ""
    blocks: list[Block] = []
    end: int | None = None
    interrupt = Cancel()
    for chunk in session.stream(request, lambda: cancel() or interrupt()):
        streamed += chunk.text
        blocks.append(_block(chunk))
        if end is None:
            show(chunk.text)
            shown = streamed
            if guessed and (end := unit_end(before, streamed)) is not None:
                interrupt.set()
        if chunk.completion:
            if end is None:
                return Turn(_on_lines(chunk.completion, request.unit), shown, tuple(blocks))
            completion = _at_unit_end(chunk.completion, streamed[:end])
            return Turn(completion, shown, tuple(blocks), indentation(streamed[end:].partition("\n")[0]))
    raise AssertionError("a stream ends with its completion")


def _block(chunk: Chunk) -> Block:
    step = chunk.step
    return Block(chunk.text, len(step.ids), step.drafted, step.viable, step.agreed, step.refused)


def _on_lines(completion: Completion, unit: str | None) -> Completion:
    """With its line end, where it ended with a unit of whole lines: what comes next is another line."""
    whole = completion.finish_reason == UNIT_ENDED and unit != "expression" and completion.text
    if not whole or completion.text.endswith("\n"):
        return completion
    return msgspec.structs.replace(completion, text=completion.text + "\n")


def _at_unit_end(completion: Completion, unit: str) -> Completion:
    """The completion ended with its unit. `unit_end` has made sure that the program parses there."""
    text = unit.rstrip() + "\n"
    return msgspec.structs.replace(completion, text=text, valid=True, finish_reason=UNIT_ENDED, reason=None)
