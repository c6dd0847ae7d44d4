"""A Python file as text, and a place in it.

The file's own characters are kept: what is written back differs by the inserted text alone. The model and the validator
see every line end as "\\n"; inserted text gets the line end that the file uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assistant.errors import UsageProblem, ViableError

CURSOR_MARK = "<CURSOR>"
"""Marks the place to complete inside a file's text."""


@dataclass(frozen=True)
class Gap:
    """The text left and right of a cursor, as it stands in the file."""

    left: str
    right: str

    @property
    def prefix(self) -> str:
        """The left text with line ends as "\\n"."""
        return with_line_end(self.left, "\n")

    @property
    def suffix(self) -> str:
        """The right text with line ends as "\\n"."""
        return with_line_end(self.right, "\n")

    @property
    def line_end(self) -> str:
        """The line end that the file uses most; "\\n" where it has none."""
        text = self.left + self.right
        windows = text.count("\r\n")
        counts = {"\n": text.count("\n") - windows, "\r\n": windows, "\r": text.count("\r") - windows}
        return max(counts, key=lambda end: counts[end])

    @property
    def position(self) -> tuple[int, int]:
        """Line and column of the cursor, from 1, in characters."""
        lines = self.prefix.split("\n")
        return len(lines), len(lines[-1]) + 1

    def filled(self, text: str) -> str:
        """The whole file with `text` in the gap, in the file's own line ends."""
        return self.left + with_line_end(text, self.line_end) + self.right


def with_line_end(text: str, end: str) -> str:
    """`text` with every line end replaced by `end`."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", end)


def read_text(path: Path) -> str:
    """The text of a file, byte order mark included. One-line errors for what is no Python source text."""
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise UsageProblem(f"{path}: is a directory, not a file") from None
    except OSError as error:
        raise UsageProblem(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return decode(data, str(path))


def decode(data: bytes, name: str) -> str:
    """UTF-8 to text; `name` says in errors where the bytes come from."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ViableError(f"{name}:{line}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") from None
    if (offset := text.find("\0")) >= 0:
        line = text.count("\n", 0, offset) + 1
        raise ViableError(f"{name}:{line}: holds a NUL character, which no Python source may")
    return text


def gap_at(text: str, line: int, column: int) -> Gap:
    """Split `text` at a line and column, both from 1, column in characters; one past the last character is allowed."""
    lines = text.splitlines(keepends=True) if text else [""]
    lines = _rejoined(lines)
    if lines[-1].endswith(("\n", "\r")):
        lines.append("")
    if not 1 <= line <= len(lines):
        raise UsageProblem(f"line {line} is outside the file, which has {len(lines)} lines")
    width = len(lines[line - 1].rstrip("\r\n"))
    if not 1 <= column <= width + 1:
        raise UsageProblem(f"column {column} is outside line {line}, which has {width} characters")
    offset = sum(len(before) for before in lines[: line - 1]) + column - 1
    return Gap(text[:offset], text[offset:])


def _rejoined(lines: list[str]) -> list[str]:
    """Lines as Python counts them: str.splitlines also splits at form feeds and other separators."""
    joined: list[str] = []
    for line in lines:
        if joined and not joined[-1].endswith(("\n", "\r")):
            joined[-1] += line
        else:
            joined.append(line)
    return joined


def gap_at_mark(text: str) -> Gap:
    """Split `text` at its cursor mark, or at its end where it has none."""
    left, _, right = text.partition(CURSOR_MARK)
    if CURSOR_MARK in right:
        raise UsageProblem(f"the text has {text.count(CURSOR_MARK)} {CURSOR_MARK} marks; one is needed")
    return Gap(left, right)
