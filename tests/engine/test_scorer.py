"""A decoder with its cache: one pass or many, broken off or not, the same ranking."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import pytest

import model
from model.engine import Greedy, Interrupted
from model.engine.scorer import CachedScorer
from tests.tiny import write_tiny_gguf

IDS = [7, 100, 33, 254, 7, 12, 90, 41]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> model.Decoder:
    return model.load(write_tiny_gguf(tmp_path_factory.mktemp("scorer")), dtype="float32")


def best(scorer: CachedScorer, ids: Sequence[int]) -> list[list[int]]:
    return [list(islice(ranking, 5)) for ranking in scorer.extend(ids, Greedy())]


def test_a_block_ranks_what_its_tokens_rank_one_by_one(decoder: model.Decoder) -> None:
    singly = CachedScorer(decoder, 32)
    expected = [row for token in IDS for row in best(singly, [token])]
    assert best(CachedScorer(decoder, 32), IDS) == expected
    assert (singly.passes, list(singly.ids)) == (len(IDS), IDS)


def test_logits_that_nobody_reads_are_not_computed(decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    head = decoder.head
    monkeypatch.setattr(decoder, "head", lambda hidden: (computed.append(len(hidden)), head(hidden))[1])
    rows = CachedScorer(decoder, 32).extend(IDS, Greedy())
    assert computed == []
    for row, expected in ((0, [4]), (1, [4]), (3, [4]), (4, [4, 4]), (7, [4, 4])):
        next(iter(rows[row]))
        assert computed == expected


def test_what_was_truncated_leaves_no_trace(decoder: model.Decoder) -> None:
    scorer = CachedScorer(decoder, 32)
    best(scorer, [*IDS[:3], 200, 201])
    scorer.truncate(3)
    assert best(scorer, IDS[3:]) == best(CachedScorer(decoder, 32), IDS)[3:]


def test_a_pass_that_is_broken_off_leaves_no_trace(decoder: model.Decoder) -> None:
    scorer = CachedScorer(decoder, 32)
    best(scorer, IDS[:3])
    asked = iter([None, "cancelled"])
    with pytest.raises(Interrupted) as broken:
        scorer.extend(IDS[3:], Greedy(), lambda: next(asked))
    assert broken.value.stop == "cancelled"
    assert next(asked, "end") == "end", "the pass was not broken off at once"
    assert list(scorer.ids) == IDS[:3]
    assert best(scorer, IDS[3:]) == best(CachedScorer(decoder, 32), IDS)[3:]
