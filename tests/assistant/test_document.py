"""Files as text, and places in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assistant.document import (
    BYTE_ORDER_MARK,
    CURSOR_MARK,
    Gap,
    NotSource,
    decode,
    gap_at,
    gap_at_mark,
    read_text,
    with_line_end,
)
from assistant.errors import UsageProblem
from validators import Problem

texts = st.text(st.sampled_from("ab\t\n\r\f\v\x1c\x85\u2028é😀\ufeff "), max_size=30)
"""Everything that str.splitlines takes for a line end and Python does not, too."""


def lines_as_python_counts(text: str) -> list[str]:
    """The slow twin: lines without their ends, one character after the other."""
    lines, i = [""], 0
    while i < len(text):
        if text[i] in "\r\n":
            i += text[i : i + 2] == "\r\n"
            lines.append("")
        else:
            lines[-1] += text[i]
        i += 1
    return lines


@given(texts, st.data())
@example("\ufeff", None)
@example("", None)
def test_every_place_of_a_file_can_be_named_and_splits_it_there(text: str, data: st.DataObject | None) -> None:
    lines = lines_as_python_counts(text.removeprefix(BYTE_ORDER_MARK))
    line = data.draw(st.integers(1, len(lines))) if data else 1
    column = data.draw(st.integers(1, len(lines[line - 1]) + 1)) if data else 1
    gap = gap_at(text, line, column)
    assert gap.left + gap.right == text
    assert gap.position == (line, column)
    assert gap.prefix == "\n".join([*lines[: line - 1], lines[line - 1][: column - 1]])
    assert gap.suffix == "\n".join([lines[line - 1][column - 1 :], *lines[line:]])


@given(texts)
def test_places_outside_a_file_are_refused_with_its_size(text: str) -> None:
    lines = lines_as_python_counts(text.removeprefix(BYTE_ORDER_MARK))
    for line, column in ((0, 1), (len(lines) + 1, 1), (1, 0), (1, len(lines[0]) + 2), (-1, 1), (1, -1)):
        with pytest.raises(UsageProblem, match=r"outside") as caught:
            gap_at(text, line, column)
        assert re.search(rf"\b{len(lines[0]) if line == 1 else len(lines)}\b", str(caught.value))


def test_one_of_a_kind_is_not_called_many() -> None:
    with pytest.raises(UsageProblem, match=r"which has 1 line$"):
        gap_at("a", 2, 1)
    with pytest.raises(UsageProblem, match=r"which has 1 character$"):
        gap_at("a", 1, 3)


@given(texts, texts, st.text(st.sampled_from("ab\n"), max_size=8))
@example("a\r", "b\n", "\nc")
@example("a\r", "\nb", "c")
@example("", "\ufeffa", "b")
def test_filling_a_gap_adds_the_text_and_changes_nothing_else(left: str, right: str, text: str) -> None:
    gap = gap_at_mark(left + CURSOR_MARK + right)
    filled = gap.filled(text)
    assert filled.startswith(gap.left)
    assert filled.endswith(gap.right)
    inserted = filled[len(gap.left) : len(filled) - len(gap.right)]
    assert with_line_end(inserted, "\n") == text
    seen = with_line_end(filled.removeprefix(BYTE_ORDER_MARK), "\n")
    assert seen == gap.prefix + text + gap.suffix, "the model and the file disagree about what is there"


@given(texts, texts)
def test_a_mark_is_taken_out_and_splits_the_text_where_it_stood(left: str, right: str) -> None:
    gap = gap_at_mark(left + CURSOR_MARK + right)
    assert gap.left + gap.right == left + right
    moved = abs(len(gap.left) - len(left))
    assert moved == 0 or (moved == 1 and (left[-1:] + right[:1] == "\r\n" or (not left and right[0] == "\ufeff")))


def test_without_a_mark_the_end_of_the_file_is_meant() -> None:
    assert gap_at_mark("x = 1\n") == Gap("x = 1\n", "")
    assert gap_at_mark("") == Gap("", "")


def test_two_marks_are_one_too_many() -> None:
    with pytest.raises(UsageProblem, match="3 <CURSOR> marks; one is needed"):
        gap_at_mark(CURSOR_MARK * 3)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", "\n"),
        ("a", "\n"),
        ("a\nb\r\nc\r\n", "\r\n"),
        ("a\rb\r", "\r"),
        ("a\nb\r\n", "\n"),
        ("a\n\r", "\n"),
        ("a\f\r\n", "\r\n"),
    ],
)
def test_the_line_end_is_the_one_used_most(text: str, end: str) -> None:
    assert {Gap(text[:i], text[i:]).line_end for i in range(len(text) + 1) if text[i - 1 : i + 1] != "\r\n"} == {end}
    assert gap_at_mark(text).filled("x\ny").endswith(f"x{end}y")


def test_problems_are_told_by_their_place_in_the_file() -> None:
    gap = Gap("ab\ncd", "ef\n  gh")
    assert gap.place(Problem("left", 4, 2, 2, "")) == (2, 2)
    assert gap.place(Problem("right", 1, 1, 2, "")) == (2, 4), "on the cursor's line"
    assert gap.place(Problem("right", 5, 2, 3, "")) == (3, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ab\ncd\xff", "f.py:2:3: not UTF-8: byte 0xff at offset 5"),
        (b"\xff\xfea\0", "f.py:1:1: not UTF-8: byte 0xff at offset 0"),
        ("é\xe9".encode() + b"\xe9", "f.py:1:3: not UTF-8: byte 0xe9 at offset 4"),
        (b"a\r\nb\r\0", "f.py:3:1: holds a NUL character, which no Python source may"),
    ],
)
def test_what_is_no_text_is_told_by_its_place(data: bytes, message: str) -> None:
    with pytest.raises(NotSource) as caught:
        decode(data, "f.py")
    assert str(caught.value) == message
    assert message.startswith(f"f.py:{caught.value.line}:{caught.value.column}: {caught.value.reason}")
    assert caught.value.exit_code == 1


@given(texts)
def test_a_file_is_read_as_it_is(text: str) -> None:
    assert decode(text.encode(), "f.py") == text


def test_what_cannot_be_read_is_misuse(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "is a directory"), (tmp_path / "no.py", "no such file or directory")):
        with pytest.raises(UsageProblem, match=reason) as caught:
            read_text(path)
        assert str(caught.value).startswith(f"{path}: ")
