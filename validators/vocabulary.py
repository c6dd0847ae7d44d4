"""A tokenizer's vocabulary as texts, and sets of its ids as integers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import cached_property

from validators.halves import examples, split
from validators.scanner import FORBIDDEN

__all__ = ["Vocabulary", "bits_of", "category"]


class Vocabulary:
    """What the tokens are as text.

    A token that ends in the middle of a character stands for one text with each character that Python's grammar tells
    apart there (``halves.examples``): it may come next where one of them may. Ids without a text of their own
    (specials, what begins in the middle of a character, what no source file can contain) are in none of the tables.
    """

    def __init__(self, pieces: Sequence[bytes | None]) -> None:
        self.size = len(pieces)
        self.ids: dict[str, list[int]] = {}
        """Text -> the tokens that it stands for."""
        self.ambiguous: set[int] = set()
        """Tokens that several texts stand for."""
        self.continuations: list[tuple[int, bytes]] = []
        """Tokens that begin in the middle of a character."""
        for token, piece in enumerate(pieces):
            if not piece:
                continue
            if piece[0] & 0xC0 == 0x80:
                self.continuations.append((token, piece))
                continue
            found = split(piece)
            if found is None:
                continue
            text, pending = found
            if text and FORBIDDEN.search(text):
                continue
            endings = examples(pending) if pending else ("",)
            if len(endings) > 1:
                self.ambiguous.add(token)
            for ending in endings:
                self.ids.setdefault(text + ending, []).append(token)

    @cached_property
    def by_first(self) -> dict[str, list[str]]:
        """Texts by their first character."""
        found: dict[str, list[str]] = {}
        for text in self.ids:
            found.setdefault(text[0], []).append(text)
        return found

    def of_category(self, categories: Container[str]) -> list[str]:
        """Texts whose ``category`` is one of these."""
        return [text for first, texts in self.by_first.items() if category(first) in categories for text in texts]

    def bits(self, texts: Iterable[str]) -> int:
        """The tokens that these texts stand for, as a mask: bit i is token i."""
        return bits_of(self.size, (token for text in texts for token in self.ids[text]))


def category(text: str) -> str:
    """What decides whether ``text`` can lengthen a token: a blank, a letter, a digit, or the sign it begins with."""
    first = text[0]
    if first in " \t\f":
        return " "
    if first.isdigit() and first.isascii():
        return "0"
    return "a" if first == "_" or first.isalpha() or first > "\x7f" else first


def bits_of(size: int, ids: Iterable[int]) -> int:
    """A mask with these bits set; ``size``: one more than the largest."""
    data = bytearray(size // 8 + 1)
    for token in ids:
        data[token >> 3] |= 1 << (token & 7)
    return int.from_bytes(data, "little")
