"""Painting while a text is written, against painting it at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.lexers.python import PythonLexer
from pygments.token import Comment, Keyword, Name, String

from assistant.repl.paint import LineLexer, Painter
from assistant.repl.screen import theme_style
from tests.repl.grid import Grid

STYLE = theme_style("terminal")
CODE = st.text("abdefi \n\t'\"#=(1:\\日\u0301\x1b\u202e", max_size=80)
"""Fragments of code, with wide characters and with such as act on a terminal."""


def painted(*texts: str, columns: int = 40) -> Grid:
    grid = Grid(columns)
    painter = Painter(grid, STYLE)
    for text in texts:
        painter.write(text, "model")
    return grid


@given(CODE, st.data(), st.sampled_from([12, 17, 40]))
def test_in_pieces_as_at_once(text: str, data: st.DataObject, columns: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces, whole = painted(*parts, columns=columns), painted(text, columns=columns)
    assert pieces.cells == whole.cells
    assert (pieces.row, pieces.column) == (whole.row, whole.column)


@given(CODE, st.data(), st.sampled_from([12, 40]))
def test_cut_as_never_written(text: str, data: st.DataObject, columns: int) -> None:
    count = data.draw(st.integers(0, len(text)))
    grid = Grid(columns, rows=200)
    painter = Painter(grid, STYLE)
    painter.write(text, "model")
    assert painter.cut(count)
    kept = text[: len(text) - count]
    assert grid.cells == painted(kept, columns=columns).cells
    painter.write("x = '1\ny", "model")
    assert grid.cells == painted(kept, "x = '1\ny", columns=columns).cells


@given(CODE)
def test_the_text_can_be_read_back(text: str) -> None:
    text = "".join(c for c in text if c.isprintable() or c == "\n")
    grid = painted(text, columns=400)
    shown = [line[2:] for line in grid.lines]
    assert shown[: len(text.splitlines())] == [line.rstrip() for line in text.split("\n")][: len(text.splitlines())]


def test_a_word_changes_its_colour_when_it_is_complete() -> None:
    grid = Grid()
    painter = Painter(grid, STYLE)
    painter.write("de", "model")
    before = grid.colours(0)[2:4]
    painter.write("f ", "model")
    assert grid.lines == ["│ def"]
    assert grid.colours(0)[2:5] == ["ansimagenta"] * 3 != before


def test_finished_lines_are_not_written_again() -> None:
    """A long program costs what its characters cost, and a line what its changes cost."""
    grid = Grid(100)
    painter = Painter(grid, STYLE)
    lines = [f"value_{n} = {n} + other" for n in range(200)]
    for line in lines:
        for word in line.split(" "):
            painter.write(f"{word} ", "model")
        painter.write("\n", "model")
    characters = sum(len(line) + 4 for line in lines)
    assert characters <= grid.written <= 2 * characters


def test_what_has_scrolled_away_is_left_alone() -> None:
    grid = Grid(rows=10)
    painter = Painter(grid, STYLE)
    text = "a = 1\n" * 30
    painter.write(text, "model")
    before = list(grid.cells)
    assert not painter.cut(6 * 20)
    assert grid.cells == before
    assert painter.cut(6 * 5)
    assert len(grid.lines) == 26


def test_lines_say_who_began_them() -> None:
    grid = Grid()
    painter = Painter(grid, STYLE)
    painter.write("def f(", "user")
    painter.write("x):\n    return x\n", "model")
    painter.close()
    assert grid.lines == ["› def f(x):", "│     return x", ""]


def test_a_note_leaves_no_trace() -> None:
    grid = Grid()
    painter = Painter(grid, STYLE)
    painter.write("x =", "user")
    painter.status("thinking …")
    assert grid.lines == ["› x =  thinking …"]
    painter.clear_status()
    painter.write(" 1", "model")
    assert grid.lines == ["› x = 1"]


@pytest.mark.parametrize("source", ["def f(x):\n    'text' # remark\n    return x\n", "x = f'a{b}' + r'''c\nd'''\n"])
def test_lines_are_lexed_as_the_whole_is(source: str) -> None:
    whole = [(kind, c) for kind, value in PythonLexer().get_tokens(source) for c in value if c != "\n"]
    lexer, stack = LineLexer(), ("root",)
    cells = []
    for line in source.splitlines():
        shown, stack = lexer.line(line, stack)
        cells += shown
    assert "".join(cell.shown for cell in cells) == "".join(c for _, c in whole)
    for group in (Keyword, String, Comment, Name.Function):
        name = "pygments." + ".".join(group).lower()
        assert [name in cell.style for cell in cells] == [kind in group for kind, _ in whole], group
