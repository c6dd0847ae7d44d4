"""Paints a program while it is written: highlighted as it arrives, without touching finished lines again.

The lexer is fed line by line and keeps its stack between lines. Only the line under the cursor is lexed again when
something is added to it; what changed is painted over in place, so that `de` turns into a keyword when `f` arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.formatted_text.pygments import PygmentsTokens
from prompt_toolkit.output import Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import BaseStyle
from prompt_toolkit.utils import get_cwidth
from pygments.lexer import ExtendedRegexLexer, LexerContext
from pygments.lexers.python import PythonLexer

from assistant.repl.lines import INDENT
from assistant.repl.program import Author
from assistant.repl.visible import spelled

GUTTER: dict[Author, str] = {"user": "› ", "model": "│ "}
"""What stands left of a line: who began it. Both are as wide, so that the program's columns stay in line."""
WRAPPED = "  "
"""Stands left of the rest of a line that was too wide."""

Stack = tuple[str, ...]


class Cell(NamedTuple):
    """One character as it is shown."""

    style: str
    shown: str


class StackLexer(ExtendedRegexLexer, PythonLexer):
    """Pygments' Python lexer, with its stack within reach."""


class LineLexer:
    """Highlights line by line."""

    def __init__(self) -> None:
        self._lexer = StackLexer()

    def line(self, text: str, stack: Stack = ("root",)) -> tuple[list[Cell], Stack]:
        """One cell a character of `text`, which holds no line end, and the stack for the next line."""
        context = LexerContext(text + "\n", 0, list(stack))
        tokens = [(kind, value) for _, kind, value in self._lexer.get_tokens_unprocessed(context=context)]
        cells = [_cell(style, c) for style, value, *_ in PygmentsTokens(tokens).__pt_formatted_text__() for c in value]
        return cells[: len(text)], tuple(context.stack)


def _cell(style: str, character: str) -> Cell:
    shown = spelled(character)
    return Cell(style if shown == character else "class:unprintable", shown)


@dataclass
class Line:
    """A line on the screen."""

    author: Author
    stack: Stack
    """The lexer's before the line."""
    text: str = ""
    rows: list[list[Cell]] = field(default_factory=lambda: [[]])


class Painter:
    """Writes to the end of the program on `output`, from the left margin on.

    Whoever uses it leaves the cursor alone until `close`.
    """

    def __init__(self, output: Output, style: BaseStyle) -> None:
        self._output = output
        self._style = style
        self._lexer = LineLexer()
        self._lines: list[Line] = []
        self._stack: Stack = ("root",)
        self._ended = True

    def write(self, text: str, author: Author) -> None:
        """Append `text` and show it."""
        for number, part in enumerate(text.split("\n")):
            if number:
                self._end_line(author)
            if part:
                if self._ended:
                    self._begin_line(author)
                self._extend(part)
        self._output.flush()

    def cut(self, count: int) -> bool:
        """Take the last `count` characters off the screen; False, and nothing done, if they have scrolled away."""
        if count <= 0:
            return True
        lines = list(self._lines)
        missing = count - self._ended
        up = len(lines[-1].rows) - (not self._ended)
        while missing > len(lines[-1].text):
            missing -= len(lines.pop().text) + 1
            up += len(lines[-1].rows)
        if up >= self._output.get_size().rows:
            return False
        self._output.cursor_up(up)
        self._output.write_raw("\r")
        self._output.erase_down()
        line = lines.pop()
        self._lines, self._stack, self._ended = lines, line.stack, True
        if kept := line.text[: len(line.text) - missing]:
            self._begin_line(line.author)
            self._extend(kept)
        self._output.flush()
        return True

    def status(self, text: str) -> None:
        """Show a note at the cursor until `clear_status`; nothing may be written meanwhile."""
        used = 0 if self._ended else len(WRAPPED) + _width(self._lines[-1].rows[-1])
        text = (WRAPPED + text)[: max(self._output.get_size().columns - used - 1, 0)]
        self._print([Cell("class:note", text)])
        self._output.cursor_backward(len(text))
        self._output.flush()

    def clear_status(self) -> None:
        """Take the note away."""
        self._output.erase_down()
        self._output.flush()

    def close(self) -> None:
        """Leave the cursor at the left margin below what was painted."""
        if not self._ended:
            self._output.write_raw("\r\n")
            self._ended = True
        self._output.flush()

    def _begin_line(self, author: Author) -> None:
        self._lines.append(Line(author, self._stack))
        self._ended = False
        self._print([Cell(f"class:gutter.{author}", GUTTER[author])])

    def _end_line(self, author: Author) -> None:
        if self._ended:
            self._begin_line(author)
        line = self._lines[-1]
        _, self._stack = self._lexer.line(line.text, line.stack)
        self._output.write_raw("\r\n")
        self._ended = True

    def _extend(self, text: str) -> None:
        line = self._lines[-1]
        line.text += text
        cells, _ = self._lexer.line(line.text, line.stack)
        rows = self._wrapped(cells)
        row, column = _first_difference(line.rows, rows)
        self._output.cursor_up(len(line.rows) - 1 - row)
        self._output.write_raw("\r")
        self._output.cursor_forward(len(WRAPPED) + _width(rows[row][:column]))
        self._output.erase_down()
        self._print(rows[row][column:])
        for further in rows[row + 1 :]:
            self._output.write_raw("\r\n" + WRAPPED)
            self._print(further)
        line.rows = rows

    def _wrapped(self, cells: list[Cell]) -> list[list[Cell]]:
        """Rows that fit the screen, its last column left free so that the terminal itself never wraps."""
        room = max(self._output.get_size().columns - len(WRAPPED) - 1, 8)
        rows: list[list[Cell]] = [[]]
        width = 0
        for cell in cells:
            if cell.shown == "\t":
                cell = Cell(cell.style, " " * (INDENT - width % INDENT))
            size = get_cwidth(cell.shown)
            if width + size > room:
                rows.append([])
                width = 0
            rows[-1].append(cell)
            width += size
        return rows

    def _print(self, cells: list[Cell]) -> None:
        if cells:
            print_formatted_text(self._output, FormattedText(cells), self._style)


def _width(cells: list[Cell]) -> int:
    return sum(get_cwidth(cell.shown) for cell in cells)


def _first_difference(old: list[list[Cell]], new: list[list[Cell]]) -> tuple[int, int]:
    """Row and index of the first cell that is not on the screen yet."""
    for row, cells in enumerate(new):
        before = old[row] if row < len(old) else None
        if before is None:
            return row - 1, len(new[row - 1])
        column = next((i for i, (a, b) in enumerate(zip(before, cells, strict=False)) if a != b), None)
        if column is not None:
            return row, column
        if len(before) != len(cells):
            return row, min(len(before), len(cells))
    return len(new) - 1, len(new[-1])
