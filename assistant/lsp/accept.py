"""Which suggestions were taken: seen from the text itself, so that it works with every client."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from assistant.lsp.documents import Document, Place, split_lines
from assistant.lsp.suggest import Suggestion

KEPT = 8
"""Suggestions that are remembered."""


@dataclass(frozen=True)
class _Shown:
    uri: str
    text: str
    end: Place
    """Where the cursor stands when the whole text has been taken."""
    length: int
    """Characters of the file then."""


class Accepted:
    """Remembers what was shown lately and notices when a file has it."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._number = 0
        self.count = 0

    def show(self, document: Document, suggestion: Suggestion) -> str:
        """Remember a suggestion; its id."""
        text, target = suggestion
        lines = split_lines(text)
        start = target.start
        end = Place(start.line + len(lines) - 1, len(lines[-1]) + (start.column if len(lines) == 1 else 0))
        length = document.length + len(text) - (target.end.column - start.column)
        self._number += 1
        name = str(self._number)
        self._shown[name] = _Shown(document.uri, text, end, length)
        if len(self._shown) > KEPT:
            self._shown.popitem(last=False)
        return name

    def arrived(self, document: Document) -> Place | None:
        """Where the cursor stands, if the file has just got all of a suggestion."""
        for name, shown in reversed(self._shown.items()):
            if (shown.uri, shown.length) != (document.uri, document.length):
                continue
            if document.has(shown.end) and document.gap(shown.end).left.endswith(shown.text):
                del self._shown[name]
                self.count += 1
                return shown.end
        return None
