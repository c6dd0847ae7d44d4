"""Cuts lose nothing, and have the shape that they are named for."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train import gaps
from model.train.gaps import LONGEST, SHAPES, any_cut, cut

SOURCE = Path(ast.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(40))
def test_the_four_pieces_are_the_text(shape: str, seed: int) -> None:
    found = cut(SOURCE, shape, Random(seed))
    assert found is not None
    assert found.prefix + found.middle + found.skipped + found.suffix == SOURCE
    assert found.middle.strip() and found.suffix.strip()
    assert len(found.middle) <= LONGEST


@given(st.text(alphabet="ab (:)\n\t é\r", max_size=120), st.integers(0, 5))
def test_odd_texts_lose_nothing_either(text: str, seed: int) -> None:
    for shape in SHAPES:
        found = cut(text, shape, Random(seed))
        assert found is None or found.prefix + found.middle + found.skipped + found.suffix == text


@pytest.mark.parametrize("seed", range(60))
def test_shapes_are_what_they_say(seed: int) -> None:
    random = Random(seed)
    end = cut(SOURCE, "line end", random)
    assert end and "\n" not in end.middle and end.suffix.startswith("\n")
    lines = cut(SOURCE, "lines", random)
    assert lines and lines.prefix.endswith("\n") and 1 <= lines.middle.count("\n") <= 8 and lines.middle.endswith("\n")
    span = cut(SOURCE, "span", random)
    assert span and 20 <= len(span.middle) <= 300
    at_cursor = cut(SOURCE, "lines at cursor", random)
    assert at_cursor and not at_cursor.middle.startswith(" ") and at_cursor.suffix.startswith("\n")
    block = cut(SOURCE, "block", random)
    assert block
    depths = [len(line) - len(line.lstrip()) for line in block.middle.split("\n")[1:] if line.strip()]
    begin = block.prefix.rsplit("\n", 1)[1] + block.middle.split("\n", 1)[0]
    assert all(depth >= len(begin) - len(begin.lstrip()) for depth in depths)


def test_some_right_hand_texts_are_far_away_and_all_shapes_occur() -> None:
    found = [any_cut(SOURCE, Random(seed)) for seed in range(1500)]
    shapes = Counter(one.shape for one in found if one)
    assert set(shapes) == set(SHAPES)
    for shape, (_, share) in SHAPES.items():
        assert abs(shapes[shape] / 1500 - share) < 0.06
    far = [one for one in found if one and one.skipped]
    assert 5 < len(far) < 80
    assert all(one.prefix + one.middle + one.skipped + one.suffix == SOURCE for one in far)
    assert all(one.suffix.strip() for one in far)


def test_the_same_seed_cuts_the_same_gap() -> None:
    assert any_cut(SOURCE, Random("a b")) == any_cut(SOURCE, Random("a b"))


def test_a_text_without_room_has_no_gap() -> None:
    assert cut("", "span", Random(0)) is None
    assert cut("x = 1\n", "lines", Random(0)) is None
    assert gaps.block("a\n\nb\nc\n", Random(0)) is None
