"""A terminal in memory: what an output's calls leave on the screen."""

from __future__ import annotations

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import ColorDepth, DummyOutput
from prompt_toolkit.styles import Attrs
from prompt_toolkit.utils import get_cwidth


class Grid(DummyOutput):
    """Endless downwards. `rows` says how many of its lines are still on the screen and can be reached."""

    def __init__(self, columns: int = 40, rows: int = 24) -> None:
        self.size = Size(rows=rows, columns=columns)
        self.cells: list[list[tuple[str, str]]] = [[]]
        self.row = self.column = 0
        self.written = 0
        self._colour = ""

    @property
    def lines(self) -> list[str]:
        """The text of each line, without what is blank at its end."""
        return ["".join(character for character, _ in row).rstrip() for row in self.cells]

    def colours(self, row: int) -> list[str]:
        """The colour of each character of a line."""
        return [colour for _, colour in self.cells[row]]

    def get_size(self) -> Size:
        return self.size

    def get_default_color_depth(self) -> ColorDepth:
        return ColorDepth.DEPTH_4_BIT

    def write(self, data: str) -> None:
        self.written += len(data)
        for character in data:
            if character == "\r":
                self.column = 0
            elif character == "\n":
                self._down()
            else:
                assert character.isprintable(), f"{character!r} reached the terminal"
                self._put(character)

    write_raw = write

    def _put(self, character: str) -> None:
        width = get_cwidth(character)
        assert self.column + width <= self.size.columns, "the terminal had to wrap a line"
        row = self.cells[self.row]
        if not width:
            before = next(i for i in range(self.column - 1, -1, -1) if row[i][0])
            row[before] = (row[before][0] + character, row[before][1])
            return
        row.extend([(" ", "")] * (self.column + width - len(row)))
        row[self.column] = (character, self._colour)
        row[self.column + 1 : self.column + width] = [("", self._colour)] * (width - 1)
        self.column += width

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.cells):
            self.cells.append([])

    def cursor_up(self, amount: int) -> None:
        assert amount <= self.row and len(self.cells) - self.row + amount <= self.size.rows, "above the screen"
        self.row -= amount

    def cursor_forward(self, amount: int) -> None:
        self.column += amount

    def cursor_backward(self, amount: int) -> None:
        assert amount <= self.column
        self.column -= amount

    def erase_down(self) -> None:
        del self.cells[self.row + 1 :]
        del self.cells[self.row][self.column :]

    def set_attributes(self, attrs: Attrs, color_depth: ColorDepth) -> None:
        self._colour = attrs.color or ""

    def reset_attributes(self) -> None:
        self._colour = ""
