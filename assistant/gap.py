"""Where a gap is closed: a model runs on past it, so what it wrote is cut where the file parses.

Text is what the model wrote so far, suffix what stands right of the gap; line ends are "\\n". Offsets are characters of
the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from heapq import nsmallest

from assistant.junction import begins_line
from validators.contracts import Unit

MATCH = 12
"""Visible characters of the suffix that must be written again before it counts as repetition."""

SHARED = 4
"""Visible characters of the suffix that show, where they are written again, that a text ran on into it. Of 600 spans of
held-out files 29 are then what stood there, as with 3; with 6 to 12 it is 26."""

PLACES = 24
"""Places that are tried at most because the suffix is written again behind them."""

LINE = re.compile(r"^([ \t]*)(?=\S)", re.MULTILINE)
"""The indentation of a line that is not blank."""


def needle(suffix: str) -> str:
    """What gives repetition of the suffix away: its first line, and as much more as makes `MATCH` visible characters.

    Empty if nothing visible stands in the suffix. A line that only begins like the suffix's is not repetition, and
    further blank lines before it make no difference.
    """
    body = suffix.lstrip("\n")
    visible = [i for i, character in enumerate(body[: 40 * MATCH]) if not character.isspace()]
    if not visible:
        return ""
    enough = visible[MATCH - 1] + 1 if len(visible) >= MATCH else len(body.rstrip())
    first_line = len(body.split("\n", 1)[0].rstrip())
    return ("\n" if suffix.startswith("\n") else "") + body[: max(enough, first_line)]


def unrepeated(text: str, suffix: str) -> str:
    """`text`, behind which the suffix's first line was written again, without the line ends that the suffix has too."""
    written = len(text) - len(text.rstrip("\n"))
    given = len(suffix) - len(suffix.lstrip("\n"))
    return text[: len(text) - min(written, max(given - 1, 0))]


def unit_texts(text: str, unit: Unit, suffix: str, over: Callable[[str], bool]) -> Iterator[str]:
    """What of `text`, whose last character shows that `unit` is over, is the unit, the most wanted first.

    over: is the unit over behind a text? Comments and blank lines behind a unit are not its own. A unit of whole lines
    comes with its line end where the suffix begins a line, without it where the suffix begins with one or is empty.
    """
    closer, begun = text[-1:], text[:-1]
    texts = [begun]
    if unit == "expression":
        comments = (i for i in range(begun.rfind("\n") + 1, len(begun)) if begun[i] == "#")
        # A single "=" shows its end with the character behind it.
        texts = [*(begun[:i] for i in comments if over(begun[:i] + closer)), begun, begun.rstrip().removesuffix("=")]
    elif closer not in "\r\n;":
        # A line has begun that is no longer part of it.
        lines = begun.split("\n")[:-1]
        texts = ["\n".join(lines)]
        while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
            lines.pop()
        texts.insert(0, "\n".join(lines))
    bare = unit == "expression" or not suffix or suffix.startswith("\n")
    for each in map(str.rstrip, texts):
        yield from (each, each + "\n") if bare else (each + "\n", each)


def cuts(text: str, suffix: str) -> Iterator[int]:
    """Offsets at which `text` may be cut: line by line from the end, then within the first line."""
    newlines = [i for i, character in enumerate(text) if character == "\n"]
    before_line_end = not suffix or suffix.startswith("\n")
    for newline in reversed(newlines):
        yield from (newline, newline + 1) if before_line_end else (newline + 1, newline)
    yield from range(newlines[0] if newlines else len(text), 0, -1)


def stops(prefix: str, text: str, suffix: str, over: bool) -> Iterator[int]:
    """Offsets at which `text` may be cut that a model wrote which was not taught where to end, the most wanted first.

    The end of the line that was begun; of other gaps a place before what the suffix begins with, or before a line that
    stands where the suffix's first one does. Of 600 gaps each in held-out files 181 ends of lines, 34 whole lines and
    29 spans are then what stood there; 162, 24 and 25 without, and 205, 39 and 30 answers begin with it.

    over: the model ended, or `text` ends where it began to repeat the suffix: then only the first is asked for. The
    others would have spoilt 29 of 76 whole lines that were right, ended by a model that was taught to.
    """
    if suffix.startswith("\n") and prefix.rpartition("\n")[2].strip():
        yield len(text.partition("\n")[0])
    if over:
        return
    yield from repetitions(prefix, text, suffix)
    if begins_line(prefix):
        yield from neighbours(text, suffix)


def repetitions(prefix: str, text: str, suffix: str) -> list[int]:
    """Where `text` goes on as the suffix begins, for `SHARED` visible characters or more, the longest repetition first.

    Where whole lines are asked for, only such are kept, and blank lines before what is repeated make no difference.
    """
    lines = begins_line(prefix)
    body = suffix.lstrip("\n") if lines else suffix
    visible = [i for i, character in enumerate(body[: len(text) + 1]) if not character.isspace()]
    if len(visible) < SHARED:
        return []
    head = body[: visible[SHARED - 1] + 1]
    found = []
    at = text.find(head, 1)
    while at >= 0:
        if not lines:
            found.append((at, at))
        elif text[at - 1] == "\n":
            found.append((_before(text, at, suffix), at))
        at = text.find(head, at + 1)

    def rank(place: tuple[int, int]) -> tuple[int, int, int]:
        cut, at = place
        shared = _shared(text, at, body)
        return -bisect_left(visible, shared), -_shared(text, cut, suffix) if lines else -shared, cut

    return [cut for cut, _ in nsmallest(PLACES, found, key=rank)]


def neighbours(text: str, suffix: str) -> Iterator[int]:
    """Before which lines of `text`, but the first, the suffix may go on: those as far indented as it is."""
    first = LINE.search(suffix)
    for line in LINE.finditer(text):
        if first and line.start() and line[1] == first[1]:
            yield _before(text, line.start(), suffix)


def _before(text: str, line: int, suffix: str) -> int:
    """Where to cut `text` before its line at `line`, so that the suffix comes behind as many blank lines as that."""
    body = len(text[:line].rstrip("\n"))
    given = len(suffix) - len(suffix.lstrip("\n"))
    return max(line - given, body + 1)


def _shared(text: str, at: int, suffix: str) -> int:
    """Characters of the suffix that `text` has from `at` on."""
    lengths = range(1, min(len(text) - at, len(suffix)) + 1)
    return bisect_left(lengths, True, key=lambda length: not text.startswith(suffix[:length], at))
