"""What the REPL says of a turn: under it, in the toolbar, in /stats and in /trace. Pure: values in, styled text out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assistant.completion import Completion
from assistant.repl.turn import UNIT_ENDED, Block, Turn

Part = tuple[str, str]
"""A style class, which may be empty, and a text."""

STOPPED = {
    "length": "the token limit was reached (/set max_tokens); Enter goes on",
    "time": "the time limit was reached (/set max_ms); Enter goes on",
    "context": "the model's context is full; it sees the last part alone from here on",
    "cancelled": "stopped; Enter goes on",
    "dead end": "nothing that the model could write next was valid",
    "error": "an error ended it",
}
"""Finish reason -> what there is to say. Of a regular end nothing is said."""


def after_turn(turn: Turn) -> list[Part]:
    """The note under what the model wrote; empty if there is nothing to say."""
    completion = turn.completion
    said = []
    if turn.cut.strip() and completion.finish_reason != UNIT_ENDED:
        said.append(f"✂ cut {_amount(turn.cut)} that nothing valid could end")
    if why := STOPPED.get(completion.finish_reason):
        said.append(why)
    if completion.reason:
        said.append(completion.reason)
    if not completion.text.strip() and not said:
        said.append("the model has nothing to add")
    parts: list[Part] = [("note", " · ".join(said))] if said else []
    if completion.text and not completion.valid:
        parts.append(("warning", f"{' · ' if said else ''}the program does not parse"))
    return parts


def _amount(text: str) -> str:
    lines = len(text.strip().splitlines())
    if lines > 1:
        return f"{lines} lines"
    return f"{text.strip()!r}" if len(text.strip()) <= 40 else "the last line"


@dataclass
class Totals:
    """Adds up the turns of a REPL."""

    turns: int = 0
    valid: int = 0
    tokens: int = 0
    passes: int = 0
    drafted: int = 0
    accepted: int = 0
    fallbacks: int = 0
    avoided: int = 0
    seconds: float = 0.0

    def add(self, completion: Completion) -> None:
        self.turns += 1
        self.valid += completion.valid
        self.seconds += completion.ms_total / 1000
        for name in ("tokens", "passes", "drafted", "accepted", "fallbacks", "avoided"):
            setattr(self, name, getattr(self, name) + getattr(completion, name))

    def lines(self) -> Iterator[tuple[str, str]]:
        """What was counted, and how much."""
        yield "turns", f"{self.turns}, {self.valid} with a valid program at the end"
        yield "tokens", f"{self.tokens} in {self.seconds:.1f} s, prompts included"
        yield "passes", f"{self.passes}, {self.tokens / self.passes if self.passes else 0:.2f} tokens each"
        yield "drafted", f"{self.drafted} tokens ahead, {self.accepted} of them kept"
        yield "fallbacks", f"{self.fallbacks} blocks fell back to a single token"
        yield "avoided", f"{self.avoided} tokens that the model preferred and Python refuses"


def toolbar(
    *, model: str, device: str | None, completion: Completion | None, refusal: str | None, capacity: int | None
) -> list[Part]:
    """The line below the prompt. `device` and `capacity` are None while the model is being loaded."""
    parts: list[Part] = [("", model)]
    parts.append(("", f" · {device}") if device else ("class:warning", " · loading, type on"))
    if completion:
        parts.append(("", f" · {completion.tokens_per_second:.1f} tokens/s"))
    parts.append(("", " · "))
    parts.append(("class:bad", f"✗ {refusal}") if refusal else ("class:good", "✓ parses"))
    if completion and capacity:
        parts.append(("", f" · context {completion.prompt_tokens + completion.tokens}/{capacity}"))
    return parts


TRACE_HEAD = f"{'block':<32} {'drafted':>7} {'viable':>7} {'accepted':>8}"


def trace(blocks: tuple[Block, ...]) -> Iterator[list[Part]]:
    """A line a block: its text, and what became of the draft."""
    for block in blocks:
        if not block.tokens:
            continue
        text = repr(block.text)[1:-1] if block.text else "(half a character)"
        shown = text if len(text) <= 31 else text[:30] + "…"
        line: list[Part] = [("", f"{shown:<32} {block.drafted:>7} "), _share(block.viable, block.drafted, 7), ("", " ")]
        line.append(_share(block.accepted, block.drafted, 8))
        if block.fallback:
            line.append(("warning", "  fallback"))
        if block.avoided:
            line.append(("bad", f"  {block.avoided} avoided"))
        yield line


def _share(count: int, of: int, width: int) -> Part:
    style = "note" if not of else "good" if count == of else "warning"
    return style, f"{count:>{width}}"
