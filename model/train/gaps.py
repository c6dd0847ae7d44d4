"""Gaps as people leave them in real files: cut out of a text, so that what belongs there is known.

A cut loses nothing: prefix + middle + skipped + suffix is the text. Indentation is all that is known of the language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LONGEST = 800
"""Characters of a middle at most: about 200 tokens, less than what is generated at most."""


@dataclass(frozen=True)
class Cut:
    """A text in four pieces."""

    prefix: str
    middle: str
    """What is to be written."""
    skipped: str
    """What stands between it and the text that is shown on the right: not empty where that text is far away."""
    suffix: str
    shape: str


Cutter = Callable[[str, Random], tuple[int, int] | None]
"""Text -> first and last (exclusive) offset of a middle, or None where the place that was drawn has none."""


def _lines(text: str) -> list[int]:
    """Offsets at which lines begin, and the end of the text."""
    starts = [0]
    while (newline := text.find("\n", starts[-1])) >= 0:
        starts.append(newline + 1)
    if starts[-1] < len(text):
        starts.append(len(text))
    return starts


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def line_end(text: str, random: Random) -> tuple[int, int] | None:
    """From within a line to its end; the line break stays on the right."""
    starts = _lines(text)
    i = random.randrange(len(starts) - 1) if len(starts) > 1 else 0
    if len(starts) < 2:
        return None
    line = text[starts[i] : starts[i + 1]].rstrip("\n")
    first, last = _indent(line) + 1, len(line.rstrip())
    if last <= first:
        return None
    return starts[i] + random.randrange(first, last), starts[i] + len(line)


def lines(text: str, random: Random) -> tuple[int, int] | None:
    """One to eight whole lines, from line start to line start."""
    starts = _lines(text)
    if len(starts) < 4:
        return None
    count = random.randint(1, min(8, len(starts) - 2))
    i = random.randrange(1, len(starts) - count)
    return starts[i], starts[i + count]


def lines_at_cursor(text: str, random: Random) -> tuple[int, int] | None:
    """The same with the cursor behind the indentation and the last line break left on the right."""
    place = lines(text, random)
    if place is None:
        return None
    first, last = place
    return first + _indent(text[first:last]), last - text[:last].endswith("\n")


def span(text: str, random: Random) -> tuple[int, int] | None:
    """Any 20 to 300 characters."""
    size = random.randint(20, 300)
    if len(text) <= size + 2:
        return None
    first = random.randrange(1, len(text) - size)
    return first, first + size


def word(text: str, random: Random) -> tuple[int, int] | None:
    """A few characters within a line: an argument, a name, what is between two brackets."""
    size = random.randint(1, 40)
    if len(text) <= size + 2:
        return None
    first = random.randrange(1, len(text) - size)
    newline = text.find("\n", first, first + size)
    return (first, first + size) if newline < 0 else (first, newline)


def block(text: str, random: Random) -> tuple[int, int] | None:
    """What is indented under a line: the rest of a block from one of its lines on."""
    starts = _lines(text)
    if len(starts) < 4:
        return None
    begin = random.randrange(1, len(starts) - 1)
    first = text[starts[begin] : starts[begin + 1]]
    depth = _indent(first)
    if not first.strip() or not depth:
        return None
    end = begin + 1
    for i in range(begin + 1, len(starts) - 1):
        line = text[starts[i] : starts[i + 1]]
        if line.strip():
            if _indent(line) < depth:
                break
            end = i + 1
    return starts[begin] + (depth if random.random() < 0.5 else 0), starts[end] - (random.random() < 0.5)


SHAPES: dict[str, tuple[Cutter, float]] = {
    "line end": (line_end, 0.28),
    "lines": (lines, 0.22),
    "lines at cursor": (lines_at_cursor, 0.08),
    "span": (span, 0.28),
    "word": (word, 0.06),
    "block": (block, 0.08),
}
"""Shape -> how it is cut, and how often in training."""

MEASURED = ("line end", "lines", "span")
"""The shapes that are measured, one gap of each per file."""

FAR = 0.08
"""Share of blocks and lines after which some of the text is left out, so that the right-hand text is far away."""


def cut(text: str, shape: str, random: Random, tries: int = 20) -> Cut | None:
    """One gap of a shape that shows something, or None where `tries` draws found none."""
    cutter, _ = SHAPES[shape]
    for _ in range(tries):
        place = cutter(text, random)
        if place and place[1] - place[0] <= LONGEST and text[place[0] : place[1]].strip() and text[place[1] :].strip():
            return Cut(text[: place[0]], text[place[0] : place[1]], "", text[place[1] :], shape)
    return None


def any_cut(text: str, random: Random) -> Cut | None:
    """A gap of a shape drawn by its share; sometimes the right-hand text begins further away."""
    shape = random.choices(list(SHAPES), [share for _, share in SHAPES.values()])[0]
    found = cut(text, shape, random)
    if found is None or shape not in ("block", "lines") or random.random() >= FAR:
        return found
    starts = [start for start in _lines(found.suffix)[:-1] if found.suffix[start:].strip()]
    skipped = starts[min(random.randint(1, 30), len(starts) - 1)]
    return Cut(found.prefix, found.middle, found.suffix[:skipped], found.suffix[skipped:], shape)
