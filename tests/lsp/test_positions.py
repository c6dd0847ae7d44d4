"""Columns in code units against Python's own codecs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.lsp.positions import Encoding, from_units, to_units

UNIT = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
LINES = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.text("aé€😀\t", max_size=12)


@given(LINES, st.integers(0, 14), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_units_are_those_of_the_codec_and_come_back(line: str, column: int, encoding: Encoding) -> None:
    codec, width = UNIT[encoding]
    column = min(column, len(line))
    units = to_units(line, column, encoding)
    assert units == len(line[:column].encode(codec)) // width
    assert from_units(line, units, encoding) == column


@pytest.mark.parametrize(
    ("encoding", "units", "column"),
    [("utf-8", 1, 0), ("utf-8", 3, 0), ("utf-8", 4, 1), ("utf-16", 1, 0), ("utf-16", 2, 1), ("utf-32", 1, 1)],
)
def test_a_unit_inside_a_character_is_that_characters(encoding: Encoding, units: int, column: int) -> None:
    assert from_units("😀x", units, encoding) == column


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("line", ["abc", "äbc", ""])
def test_beyond_the_end_is_the_end(line: str, encoding: Encoding) -> None:
    assert from_units(line, 99, encoding) == len(line)


def test_lone_surrogates_have_a_width() -> None:
    assert to_units("\ud83d!", 2, "utf-16") == 2
    assert from_units("\ud83d!", 1, "utf-16") == 1
