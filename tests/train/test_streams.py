"""The endless text that the small model learns from: windows, pieces, gaps, hidden numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import model
from assistant import prompt
from model import ModelUsageError
from model.companions import FOLDER
from model.train.corpus import Recipe
from model.train.passkeys import Passkeys
from model.train.select import Document
from model.train.streams import Windows, encode_gaps, open_streams, pieces
from tests.train.test_selection import code

SHIPPED = model.load_tokenizer(FOLDER / "viable-small")


def test_windows_show_everything_once_an_epoch() -> None:
    windows = Windows(np.arange(100, dtype=np.uint16), size=13, stride=10, seed=3)
    assert windows.count == 9
    starts = sorted(int(windows[i][0]) for i in range(9))
    assert starts == list(range(0, 90, 10))
    assert [len(windows[i]) for i in range(27)] == [13] * 27
    assert [int(windows[i][0]) for i in range(9, 18)] != [int(windows[i][0]) for i in range(9)]
    again = Windows(np.arange(100, dtype=np.uint16), 13, 10, 3)
    assert (again[15] == windows[15]).all()
    with pytest.raises(ModelUsageError, match="less than one window"):
        Windows(np.arange(5, dtype=np.uint16), 13, 10, 3)


def test_pieces_are_the_text() -> None:
    from random import Random

    text = "\n".join("x" * (i % 90) for i in range(2000))
    found = pieces(text, Random(0))
    assert "".join(found) == text and len(found) > 5
    assert all(piece.endswith("\n") for piece in found[:-1])


def test_gaps_are_asked_for_as_the_product_asks(streams: Path) -> None:
    found = open_streams(streams)
    fim = SHIPPED.fim
    assert fim is not None
    end = min(SHIPPED.end_ids)
    samples = np.split(found.gaps.ids, np.flatnonzero(found.gaps.ids == end) + 1)[:-1]
    assert len(samples) >= 8
    for sample in samples:
        marks = [int(i) for i in sample if int(i) in (fim.prefix, fim.suffix, fim.middle)]
        assert marks in ([], [fim.prefix, fim.suffix, fim.middle])
    assert np.count_nonzero(found.plain == end) == 8
    assert np.count_nonzero(found.gaps.ids == fim.middle) > 0


@pytest.mark.parametrize("suffix_first", [False, True])
def test_what_belongs_into_a_gap_is_marked(suffix_first: bool) -> None:
    """Piece by piece: with what is marked in its place the text is as it was."""
    tokenizer = model.load_tokenizer(FOLDER / "viable-small")
    tokenizer.suffix_first = suffix_first
    fim, end = tokenizer.fim, min(tokenizer.end_ids)
    assert fim is not None
    documents = [Document("a", f"m{i}.py", code(f"name{i}", i * 31) * 3, "") for i in range(6)]
    recipe = Recipe(lambda *parts: prompt.build(*parts).ids, end)
    ids, marks = encode_gaps(tokenizer, recipe, documents, (0, 6))
    assert len(ids) == len(marks) and set(marks) == {0, 1}
    text = ""
    for sample, marked in ((ids[a:b].tolist(), marks[a:b].astype(bool)) for a, b in _samples(ids, end)):
        if fim.middle not in sample:
            assert not marked.any()
            text += tokenizer.decode(sample)
            continue
        first = int(marked.argmax())
        assert marked[first:].all() and not marked[:first].any()
        one, two = sample.index(fim.suffix), sample.index(fim.middle)
        prefix, suffix = sample[1:one], sample[one + 1 : two]
        if suffix_first:
            assert one == 1
            prefix = sample[two + 1 : first]
        else:
            assert first == two + 1
        text += "".join(tokenizer.decode(part) for part in (prefix, sample[first:], suffix))
    whole = "".join(document.text for document in documents)
    assert len(text) > 0.8 * len(whole)  # in some gaps the text behind is left out
    assert all(line in whole for line in text.splitlines())


def _samples(ids: npt.NDArray[np.uint16], end: int) -> Iterator[tuple[int, int]]:
    ends = [0, *(int(i) + 1 for i in np.flatnonzero(ids == end))]
    return pairwise(ends)


def test_data_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "plain.u16").write_bytes(b"")
    with pytest.raises(ModelUsageError, match="no finished data"):
        open_streams(tmp_path)


@given(st.integers(0, 10**6), st.integers(0, 700))
def test_hidden_numbers_are_said_before_they_are_asked_for(number: int, size: int) -> None:
    source = "def f(x):\n    return x + 1\n\n\n" * 60
    ids = np.array(SHIPPED.encode(source)[:size], dtype=np.int64)
    found, marks = Passkeys(SHIPPED, 3).hidden_in(ids, number)
    assert len(found) == len(marks) == len(ids)
    text = SHIPPED.decode(found.tolist())
    said = dict(re.findall(r'^([A-Z_0-9]+) = "(\d+)"$', text, re.MULTILINE))
    asked = re.findall(r'assert ([A-Z_0-9]+) == "(\d+)"\n', text)
    assert dict(asked) == said and len(asked) == len(said)
    for name, value in asked:
        assert text.index(f'{name} = "') < text.index(f'assert {name} == "{value}"')
    assert SHIPPED.decode(found[marks].tolist()) == "".join(f'{value}"\n' for _, value in asked)
    if size > 500:
        assert said
    if not said:
        assert (found == ids).all()
