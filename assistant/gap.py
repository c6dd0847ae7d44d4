"""Where a gap is closed: a model runs on past it, so what it wrote is cut where the file parses.

Text is what the model wrote so far, suffix what stands right of the gap; line ends are "\\n". Offsets are characters of
the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

MATCH = 12
"""Visible characters of the suffix that must be written again before it counts as repetition."""


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


def cuts(text: str, suffix: str, closed: int | None) -> Iterator[int]:
    """Offsets at which `text` may be cut, the most wanted first. `closed` is where it repeats the suffix, if it does.

    First all of it, then line by line from the end, then within the first line.
    """
    text = text[:closed]
    yield len(text)
    yield len(text.rstrip())
    newlines = [i for i, character in enumerate(text) if character == "\n"]
    before_line_end = not suffix or suffix.startswith("\n")
    for newline in reversed(newlines):
        yield from (newline, newline + 1) if before_line_end else (newline + 1, newline)
    yield from range(newlines[0] if newlines else len(text), 0, -1)


def settle(text: str, suffix: str, closed: int | None, parses: Callable[[str], bool]) -> str | None:
    """The most wanted beginning of `text` that parses in its place and shows something; None where there is none."""
    for cut in dict.fromkeys(cuts(text, suffix, closed)):
        if text[:cut].strip() and parses(text[:cut]):
            return text[:cut]
    return None
