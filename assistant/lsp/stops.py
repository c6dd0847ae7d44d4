"""Where a user may stop who takes a suggestion word by word or line by line: where the file parses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from assistant.document import Gap
from assistant.judge import refusal

Kind = Literal["word", "line"]

MOST = 100
"""Places that are tried before all of the text is taken."""

_WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)")
_LINE = re.compile(r"\s*\S[^\r\n]*")


def ends(text: str, kind: Kind) -> Iterator[int]:
    """Offsets after each word, or before each line end that ends a line with something in it; the last is the end."""
    offset = 0
    for match in (_WORD if kind == "word" else _LINE).finditer(text):
        offset = match.end()
        yield offset
    if offset < len(text):
        yield len(text)


def next_stop(gap: Gap, text: str, kind: Kind) -> int:
    """Characters of `text` to take: to the first word's or line's end after which the file parses.

    All of it where no end before will do. In a file that does not parse with all of it either, just a word or a line.
    """
    if refusal(gap.filled(text)) is not None:
        return next(ends(text, kind), 0)
    for count, end in enumerate(ends(text, kind)):
        if count == MOST:
            break
        if end == len(text) or refusal(gap.filled(text[:end])) is None:
            return end
    return len(text)
