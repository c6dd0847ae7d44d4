"""Texts of a vocabulary tried one by one, where no table knows what they are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from validators.blocks import Block
from validators.lines import Line
from validators.scanner import FORBIDDEN, Scanner
from validators.vocabulary import Vocabulary

__all__ = ["Trials"]


class Trials:
    """Asks the scanner. Nothing is remembered: a vocabulary would crowd out the rest."""

    def __init__(self, scanner: Scanner, vocabulary: Vocabulary) -> None:
        self._scanner = scanner
        self._vocabulary = vocabulary
        self.asked = 0

    def may(self, line: Line, block: Block, text: str) -> bool:
        """Whether ``text`` may follow."""
        return self._viable(line, block, text) == len(text)

    def texts(self, line: Line, block: Block, texts: Iterable[str]) -> int:
        """The tokens of those texts that may follow, as a mask."""
        return self._vocabulary.bits(text for text in texts if self.may(line, block, text))

    def sorted_texts(self, line: Line, block: Block, texts: Sequence[str]) -> int:
        """The same of sorted texts: what begins like a refused one is passed over."""
        found, at = list[str](), 0
        while at < len(texts):
            text = texts[at]
            accepted = self._viable(line, block, text)
            if accepted == len(text):
                found.append(text)
                at += 1
            else:
                dead = text[: accepted + 1]
                at = bisect_right(texts, dead, at, key=lambda other: other[: len(dead)])
        return self._vocabulary.bits(found)

    def _viable(self, line: Line, block: Block, text: str) -> int:
        """Characters of ``text`` that may follow."""
        self.asked += 1
        bad = FORBIDDEN.search(text)
        if bad is not None:
            text = text[: bad.start()]
        scan = self._scanner.scan(line, block, text)
        return scan.pos + scan.shift
