"""Where a gap is closed: a model runs on past it, so what it wrote is cut where the file parses.

Text is what the model wrote so far, suffix what stands right of the gap; line ends are "\\n". Offsets are characters of
the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from validators.contracts import Unit

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
