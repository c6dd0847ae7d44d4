"""A Python file as text, and a place in it.

The file's own characters are kept: what is written back differs by the inserted text alone. The model and the validator
see every line end as "\\n"; inserted text gets the line end that the file uses.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import UsageProblem, ViableError
from assistant.interrupts import read_all
from validators.contracts import Problem

CURSOR_MARK = "<CURSOR>"
"""Marks the place to complete inside a file's text."""
BYTE_ORDER_MARK = "\ufeff"
"""May stand before the first line of a file. Python and editors do not count it as a character of that line."""

_LINE_END = re.compile(r"\r\n|\r|\n")


class NotSource(ViableError):
    """The bytes are no text that Python would read."""

    def __init__(self, name: str, line: int, column: int, reason: str) -> None:
        super().__init__(f"{name}:{line}:{column}: {reason}")
        self.line = line
        self.column = column
        self.reason = reason


@dataclass(frozen=True)
class Gap:
    """The text left and right of a cursor, as it stands in the file."""

    left: str
    right: str

    @property
    def prefix(self) -> str:
        """The left text with line ends as "\\n", without a byte order mark."""
        return with_line_end(self.left.removeprefix(BYTE_ORDER_MARK), "\n")

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

    def place(self, problem: Problem) -> tuple[int, int]:
        """Line and column in the file of a problem, which counts from the start of its side's text."""
        if problem.side == "left":
            return problem.line, problem.column
        line, column = self.position
        return line + problem.line - 1, problem.column + (column - 1 if problem.line == 1 else 0)

    def filled(self, text: str) -> str:
        """The whole file with `text` in the gap, in the file's own line ends."""
        inserted = with_line_end(text, self.line_end)
        if "\r\n" in (self.left[-1:] + inserted[:1], inserted[-1:] + self.right[:1]):
            # In a file of mixed line ends the new one and its neighbour would become a single one.
            inserted = with_line_end(text, "\r\n")
        return self.left + inserted + self.right


def with_line_end(text: str, end: str) -> str:
    """`text` with every line end replaced by `end`."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", end)


def read_text(path: Path) -> str:
    """The text of a file, byte order mark included. One-line errors for what is no Python source text."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """All that a regular file or a pipe holds. UsageProblem for what cannot be read, and for devices: those may never
    end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageProblem(f"{path}: is a directory, not a file")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise UsageProblem(f"{path}: is no regular file or pipe, so it is not read")
        with path.open("rb") as file:
            return read_all(file) if stat.S_ISFIFO(mode) else file.read()
    except OSError as error:
        raise UsageProblem(f"{path}: {(error.strerror or str(error)).lower()}") from None


def decode(data: bytes, name: str, encoding: str = "utf-8") -> str:
    """Bytes to text; `name` says in errors where the bytes come from. Raises NotSource."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        called = "UTF-8" if encoding.startswith("utf-8") else encoding
        reason = f"not {called}: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise NotSource(name, *_place(data[: error.start].decode(encoding, "replace")), reason) from None
    if (offset := text.find("\0")) >= 0:
        raise NotSource(name, *_place(text[:offset]), "holds a NUL character, which no Python source may")
    return text


def _place(left: str) -> tuple[int, int]:
    return Gap(left, "").position


def gap_at(text: str, line: int, column: int) -> Gap:
    """Split `text` at a line and column, both from 1, column in characters; one past the last character is allowed."""
    starts = [0, *(end.end() for end in _LINE_END.finditer(text))]
    if not 1 <= line <= len(starts):
        raise UsageProblem(f"line {line} is outside the file, which has {_count(len(starts), 'line')}")
    begin = starts[line - 1]
    if line == 1:
        begin += text.startswith(BYTE_ORDER_MARK)
    width = len(_LINE_END.split(text[begin:], maxsplit=1)[0])
    if not 1 <= column <= width + 1:
        raise UsageProblem(f"column {column} is outside line {line}, which has {_count(width, 'character')}")
    return _split(text, begin + column - 1)


def gap_at_mark(text: str) -> Gap:
    """Split `text` at its cursor mark, or at its end where it has none."""
    left, _, right = text.partition(CURSOR_MARK)
    if CURSOR_MARK in right:
        raise UsageProblem(f"the text has {text.count(CURSOR_MARK)} {CURSOR_MARK} marks; one is needed")
    return _split(left + right, len(left))


def _split(text: str, offset: int) -> Gap:
    """Split at an offset, or where that lies inside "\\r\\n" or before a byte order mark, beside it."""
    if offset == 0:
        offset += text.startswith(BYTE_ORDER_MARK)
    elif text[offset - 1 : offset + 1] == "\r\n":
        offset -= 1
    return Gap(text[:offset], text[offset:])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
