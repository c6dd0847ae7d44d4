"""What the REPL says of a turn: under it, in the toolbar, in /stats and in /trace. Pure: values in, styled text out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prompt_toolkit.utils import get_cwidth

from assistant.completion import Completion, Drafted
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
    drafters: dict[str, Drafted] = field(default_factory=dict)

    def add(self, completion: Completion) -> None:
        self.turns += 1
        self.valid += completion.valid
        self.seconds += completion.ms_total / 1000
        for name in ("tokens", "passes", "drafted", "accepted", "fallbacks", "avoided"):
            setattr(self, name, getattr(self, name) + getattr(completion, name))
        for name, each in completion.drafters.items():
            was = self.drafters.get(name, Drafted())
            self.drafters[name] = Drafted(*(getattr(was, n) + getattr(each, n) for n in Drafted.__struct_fields__))

    def lines(self) -> Iterator[tuple[str, str]]:
        """What was counted, and how much."""
        yield "turns", f"{self.turns}, {self.valid} with a valid program at the end"
        yield "tokens", f"{self.tokens} in {self.seconds:.1f} s, prompts included"
        yield "passes", f"{self.passes}, {self.tokens / self.passes if self.passes else 0:.2f} tokens each"
        yield "drafted", f"{self.drafted} tokens ahead, {self.accepted} of them kept"
        yield "fallbacks", f"{self.fallbacks} blocks fell back to a single token"
        yield "avoided", f"{self.avoided} tokens that the model preferred and Python refuses"
        for name, each in sorted(self.drafters.items()):
            what = f", {each.proposed} tokens proposed, {each.viable} viable, {each.kept} kept" * bool(each.proposed)
            yield f"  {name}", f"{each.passes} passes{what}"


SEPARATOR = " · "
GIVES_WAY = ("hint", "rate", "device", "context")
"""What leaves a toolbar that is too narrow, in this order, once the model's name is as short as it may be."""
SHORTEST_NAME = 12
"""Columns that a model's name keeps."""


def toolbar(
    *,
    model: str,
    device: str | None,
    completion: Completion | None,
    refusal: str | None,
    capacity: int | None,
    columns: int,
    problem: str | None = None,
    hint: str = "/help",
) -> list[Part]:
    """The line below the prompt, for so many columns. `device` and `capacity` are None while the model is loaded.

    `problem` is what is wrong with a model that was asked for later.
    """
    fields: dict[str, Part] = {"model": ("", model)}
    fields["device" if device else "loading"] = ("", device) if device else ("class:warning", "loading, type on")
    if completion:
        fields["rate"] = ("", f"{completion.tokens_per_second:.1f} tokens/s")
    fields["verdict"] = ("class:bad", f"✗ {refusal}") if refusal else ("class:good", "✓ parses")
    if completion and capacity:
        fields["context"] = ("", f"context {completion.prompt_tokens + completion.answer_tokens}/{capacity}")
    if problem:
        fields["problem"] = ("class:bad", problem)
    fields["hint"] = ("", hint)
    name = min(get_cwidth(model), SHORTEST_NAME)
    for lost in GIVES_WAY:
        if name + _beside(fields) > columns:
            fields.pop(lost, None)
    fields["model"] = ("", _short(model, max(columns - _beside(fields), name)))
    parts = [part for each in fields.values() for part in (("", SEPARATOR), each)]
    return parts[1:]


def _beside(fields: dict[str, Part]) -> int:
    """Columns of a toolbar without the model's name."""
    return sum(len(SEPARATOR) + get_cwidth(text) for key, (_, text) in fields.items() if key != "model")


def _short(text: str, columns: int) -> str:
    return text if get_cwidth(text) <= columns else _fitting(text, columns - 1) + "…"


def folded(parts: Iterable[Part], columns: int, hang: int) -> list[list[Part]]:
    """Rows of at most so many columns, broken between words; all but the first begin `hang` columns further right.

    A word that fits no row is broken anywhere. Blanks at the end are left out.
    """
    cells = [(style, character) for style, text in parts for character in text]
    rows: list[list[Part]] = [[]]
    used, hang = 0, min(hang, columns // 3)
    for word in re.finditer(r"\s*\S+", "".join(character for _, character in cells)):
        begin, end = word.span()
        if used and used + get_cwidth(word[0]) > columns:
            begin += len(word[0]) - len(word[0].lstrip())
            rows.append([("", " " * hang)])
            used = hang
        for style, character in cells[begin:end]:
            if used + get_cwidth(character) > columns:
                rows.append([("", " " * hang)])
                used = hang
            rows[-1].append((style, character))
            used += get_cwidth(character)
    return [[(style, "".join(c for _, c in group)) for style, group in itertools.groupby(row, _style)] for row in rows]


def _style(part: Part) -> str:
    return part[0]


TRACE_WIDTH = 40
"""Columns of a block's text, at most."""
TRACE_COUNTS = 36
"""Columns of what stands right of it."""


def trace_width(columns: int) -> int:
    """Columns that there are for a block's text on a screen."""
    return min(max(columns - TRACE_COUNTS - 3, 8), TRACE_WIDTH)


def trace_head(width: int = TRACE_WIDTH) -> str:
    """What stands above the columns."""
    return f"{'block':<{width}} {'drafted':>7} {'viable':>7} {'accepted':>8}"


def trace(blocks: Iterable[Block], width: int = TRACE_WIDTH) -> Iterator[list[Part]]:
    """A line a block: its text, and what became of the draft. Single tokens in a row share a line."""
    for drafted, group in itertools.groupby((b for b in blocks if b.tokens), lambda b: bool(b.drafted or b.avoided)):
        if drafted:
            for block in group:
                yield _traced(block, width)
        else:
            yield from _singles("".join(block.text for block in group), width)


def _traced(block: Block, width: int) -> list[Part]:
    text = _one_line(block.text) or "(half a character)"
    line: list[Part] = [("good" if block.accepted else "", f"{_padded(text, width)} ")]
    for count, size in ((block.drafted, 7), (block.viable, 7), (block.accepted, 8)):
        style = "note" if not block.drafted else "good" if count == block.drafted else "warning"
        line.append((style, f"{count if block.drafted else '·':>{size}} "))
    if block.fallback:
        line.append(("warning", " fallback"))
    if block.avoided:
        line.append(("bad", f" {block.avoided} avoided"))
    return line


def _singles(text: str, width: int) -> Iterator[list[Part]]:
    """Tokens that nobody drafted, in lines that end with the program's."""
    for part in text.splitlines(keepends=True):
        shown = _one_line(part)
        while shown:
            piece = _fitting(shown, width - 1)
            shown = shown[len(piece) :]
            yield [("", f"{_padded(piece, width)} "), ("note", f"{'·':>7} {'·':>7} {'·':>8}")]


def _fitting(text: str, columns: int) -> str:
    """The beginning of `text` that fits; one character at least. Some characters are two columns wide."""
    ends = itertools.accumulate(map(get_cwidth, text))
    return text[: max(sum(end <= columns for end in ends), 1)]


def _padded(text: str, columns: int) -> str:
    shown = text if get_cwidth(text) < columns else _fitting(text, columns - 2) + "…"
    return shown + " " * (columns - get_cwidth(shown))


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")
