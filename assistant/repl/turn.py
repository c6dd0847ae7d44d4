"""One turn of the model: what it writes, block by block, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """What it added to the try that was being written."""
    tokens: int
    drafted: int
    """Tokens proposed beforehand."""
    viable: int
    """Of those, how many the validator let through."""
    accepted: int
    """Of those, how many the model would have chosen itself."""
    avoided: int
    """Tokens that the model preferred and the validator refused."""
    attempt: int = 1
    """The try that it was for."""

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
    session: Session,
    before: str,
    request: Request,
    cancel: Cancel,
    show: Callable[[str], None],
    *,
    whole_unit: bool,
    trying: Callable[[int], None] = lambda number: None,
) -> Turn:
    """Let the model continue `before`, showing what it writes. Of several tries the best one is shown, in the end;
    until then `trying` is told of each pass which one it was for.

    The session ends with the unit that the request names. Where it names none, `whole_unit` ends with a block or a
    paragraph, which is a guess by lines.
    """
    if guessed := whole_unit and request.unit in (None, "none"):
        request = replace(request, over=lambda written: unit_end(before, written))
    shown = ""
    blocks: list[Block] = []
    for chunk in session.stream(request, cancel):
        shown += chunk.text
        trying(chunk.number)
        show(chunk.text)
        blocks.append(_block(chunk))
        if completion := chunk.completion:
            end = request.over(shown) if guessed and completion.finish_reason == UNIT_ENDED else None
            if end is None:
                return Turn(_on_lines(completion, request.unit), shown, tuple(blocks))
            rest = shown[end:].partition("\n")[0]
            return Turn(_at_unit_end(completion, shown[:end]), shown, tuple(blocks), indentation(rest))
    raise AssertionError("a stream ends with its completion")


def _block(chunk: Chunk) -> Block:
    step = chunk.step
    return Block(chunk.written, len(step.ids), step.drafted, step.viable, step.agreed, step.refused, chunk.number)


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
