"""Edited documents against edited strings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.lsp.documents import Document, Place, split_lines

TEXTS = st.text("ab \t\r\n\f\x1c\u2028é😀", max_size=30)
FRACTION = st.floats(0, 1)


def place_at(text: str, offset: int) -> Place:
    """The slow twin: count line ends before an offset. Inside "\\r\\n" counts as before it."""
    if text[offset - 1 : offset + 1] == "\r\n":
        offset -= 1
    ends = [match.end() for match in re.finditer(r"\r\n|\r|\n", text) if match.end() <= offset]
    return Place(len(ends), offset - (ends[-1] if ends else 0))


def offset_of(text: str, place: Place) -> int:
    starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]
    return starts[place.line] + place.column


@given(TEXTS)
def test_lines_join_to_the_text(text: str) -> None:
    lines = split_lines(text)
    assert "".join(lines) == text
    assert all(
        re.search(r"(?:\r\n|\r|\n)\Z", line) and len(re.findall(r"\r\n|\r|\n", line)) == 1 for line in lines[:-1]
    )
    assert not re.search(r"[\r\n]", lines[-1])


@given(TEXTS, st.lists(st.tuples(FRACTION, FRACTION, TEXTS), max_size=6))
def test_edits_do_what_they_do_to_a_string(text: str, edits: list[tuple[float, float, str]]) -> None:
    document = Document("file:///a.py", "python", 1, text)
    for first, second, new in edits:
        start, end = (place_at(text, round(share * len(text))) for share in sorted((first, second)))
        text = text[: offset_of(text, start)] + new + text[offset_of(text, end) :]
        document.replace(start, end, new)
        assert document.text == text
        assert document.length == len(text)
        assert document._lines == split_lines(text)


@given(TEXTS, FRACTION, FRACTION)
def test_a_gap_is_the_text_around_it(text: str, first: float, second: float) -> None:
    document = Document("file:///a.py", "python", 1, text)
    start, end = (place_at(text, round(share * len(text))) for share in sorted((first, second)))
    gap = document.gap(start, end)
    assert gap.left == text[: offset_of(text, start)]
    assert gap.right == text[offset_of(text, end) :]


def test_an_edit_touches_its_own_lines_alone() -> None:
    document = Document("file:///a.py", "python", 1, "".join(f"line {i}\n" for i in range(1000)))
    before = list(document._lines)
    document.replace(Place(500, 2), Place(501, 0), "!\n?")
    kept = sum(old is new for old, new in zip(before, document._lines, strict=True))
    assert kept >= len(before) - 4


@pytest.mark.parametrize(
    ("line", "units", "expected"),
    [(0, 99, Place(0, 2)), (99, 0, Place(2, 1)), (-1, 5, Place(0, 0)), (1, -3, Place(1, 0)), (1, 1, Place(1, 0))],
)
def test_positions_outside_are_moved_inside(line: int, units: int, expected: Place) -> None:
    document = Document("file:///a.py", "python", 1, "ab\r\n\r\nc")
    assert document.place(line, units, "utf-16") == expected


def test_an_edit_that_ends_before_it_starts_is_misuse() -> None:
    document = Document("file:///a.py", "python", 1, "abc")
    with pytest.raises(ValueError, match="before it starts"):
        document.replace(Place(0, 2), Place(0, 1), "")
