"""The open files, kept in step with the editor.

Lines end at "\\n", "\\r\\n" and "\\r" and nowhere else, as the protocol and Python have it; form feeds and the Unicode
separators are ordinary characters. An edit costs what it touches, not what the file holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from assistant.document import Gap
from assistant.lsp.positions import Encoding, from_units, to_units

CLOSED = -1
"""The version of a document that is not open any more."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


def split_lines(text: str) -> list[str]:
    """Lines with their ends. The last one has none and may be empty: `"".join` gives the text back."""
    lines = _LINE.findall(text)
    if len(lines) > 1 and not lines[-2].endswith(("\n", "\r")):
        lines.pop()  # after a line without an end, the pattern finds the empty text there once more
    return lines


@dataclass(frozen=True, order=True)
class Place:
    """A position in a file: line and column from 0, the column in characters."""

    line: int
    column: int


class Document:
    """The text of one open file, edited in place."""

    def __init__(self, uri: str, language: str, version: int, text: str) -> None:
        self.uri = uri
        self.language = language
        self.version = version
        self._lines = split_lines(text)
        self.length = len(text)
        """In characters."""

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def line(self, number: int) -> str:
        """A line without its end."""
        return self._lines[number].rstrip("\r\n")

    def place(self, line: int, units: int, encoding: Encoding) -> Place:
        """Where a client's position is; outside the file or the line it is the nearest place inside."""
        if line < 0:
            return Place(0, 0)
        if line >= len(self._lines):
            line = len(self._lines) - 1
            return Place(line, len(self._lines[line]))
        return Place(line, from_units(self.line(line), max(units, 0), encoding))

    def has(self, place: Place) -> bool:
        """Is there such a place?"""
        return place.line < len(self._lines) and place.column <= len(self.line(place.line))

    def units(self, place: Place, encoding: Encoding) -> int:
        """The column of `place` in the client's units."""
        return to_units(self._lines[place.line], place.column, encoding)

    def gap(self, start: Place, end: Place | None = None) -> Gap:
        """The text left of `start` and right of `end`, by default the same place."""
        end = end or start
        left = "".join(self._lines[: start.line]) + self._lines[start.line][: start.column]
        right = self._lines[end.line][end.column :] + "".join(self._lines[end.line + 1 :])
        return Gap(left, right)

    def replace(self, start: Place, end: Place, text: str) -> None:
        """Put `text` in the place of what stands between two places. Raises ValueError if the second comes first."""
        if end < start:
            raise ValueError(f"an edit that ends at {end} before it starts, at {start}")
        new = self._lines[start.line][: start.column] + text + self._lines[end.line][end.column :]
        # A "\r" and a "\n" that an edit brings together are one line end: take a line more on either side.
        first, last = max(start.line - 1, 0), min(end.line + 1, len(self._lines) - 1)
        before = self._lines[first] if first < start.line else ""
        after = self._lines[last] if last > end.line else ""
        lines = split_lines(before + new + after)
        if last < len(self._lines) - 1:
            lines.pop()  # empty: the line after it is still there
        self.length += sum(map(len, lines)) - sum(map(len, self._lines[first : last + 1]))
        self._lines[first : last + 1] = lines

    def replace_all(self, text: str) -> None:
        """Take a new text."""
        self._lines = split_lines(text)
        self.length = len(text)
