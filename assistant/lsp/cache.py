"""Suggestions that were made, for a user who types what they say.

An entry answers for its own place and for every place that one reaches by typing the suggestion's beginning: the file
that comes of accepting the rest is the same, so it parses as before and nothing has to be computed. Texts of files are
kept as lengths and hashes alone, so that large files cost nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from assistant.document import Gap, with_line_end

SIZE = 256
"""Entries kept; the ones used longest ago go first."""


@dataclass(frozen=True)
class _Key:
    uri: str
    left_length: int
    left_hash: int
    right_length: int
    right_hash: int


@dataclass(frozen=True)
class _Entry:
    texts: tuple[str, ...]
    asked: int


class Cache:
    """Texts by the place they were made for, in characters of the file as it is, line ends included."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget all: what writes the suggestions is not as it was."""
        self._entries.clear()

    def put(self, uri: str, gap: Gap, texts: tuple[str, ...], asked: int = 1) -> None:
        """Keep what was written for a gap; `asked` is how many texts were wanted. Nothing is not kept."""
        if not texts:
            return
        key = _Key(uri, len(gap.left), hash(gap.left), len(gap.right), hash(gap.right))
        self._entries[key] = _Entry(texts, asked)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def get(self, uri: str, gap: Gap, asked: int = 1) -> tuple[str, ...]:
        """What is left of the texts that begin with what was typed since; empty if nothing is known."""
        end = gap.line_end if "\r" in gap.left or "\r" in gap.right else "\n"
        for key, entry in reversed(self._entries.items()):
            if key.uri != uri or key.right_length != len(gap.right) or key.left_length > len(gap.left):
                continue
            typed = gap.left[key.left_length :]
            texts = [text for text in entry.texts if _goes_on(text, typed, end)]
            if not texts or entry.asked < asked:
                continue
            if hash(gap.left[: key.left_length]) == key.left_hash and hash(gap.right) == key.right_hash:
                self._entries.move_to_end(key)
                self.hits += 1
                return tuple(with_line_end(text, end)[len(typed) :] for text in texts)
        return ()


def _goes_on(text: str, typed: str, end: str) -> bool:
    written = with_line_end(text, end)
    return len(written) > len(typed) and written.startswith(typed)
