"""Texts that share a pass: each comes out bit for bit as it does alone, whatever its attention and its weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import model
from model.attention import ATTENTIONS
from model.cache import Cache
from model.errors import ModelUsageError
from model.layers import ROWS_APART
from model.saving import save
from tests.model.architecture import ids, made

DTYPES = ("int8", "int4", "bfloat16", "float32")
TOKENS = [ids(250, 1, seed) for seed in range(6)]


@pytest.fixture(scope="module", params=[(name, dtype) for name in sorted(ATTENTIONS) for dtype in DTYPES], ids="-".join)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> model.Decoder:
    name, dtype = request.param
    folder = tmp_path_factory.mktemp("together")
    written = made(attention=name)
    save(written.config, dict(written.named_parameters()), folder)
    return model.load(folder, dtype=dtype)


def begun(decoder: model.Decoder, starts: list[int]) -> list[Cache]:
    """A cache for each text, with its first `starts` tokens."""
    caches = [decoder.new_cache(250) for _ in starts]
    for tokens, start, cache in zip(TOKENS, starts, caches, strict=False):
        if start:
            decoder.hidden(tokens[:, :start], cache)
    return caches


def kept(cache: Cache) -> list[Tensor]:
    return [rows[:, :, : cache.length] for layer in cache.layers for rows in layer.rows]


texts = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 9)), min_size=1, max_size=len(TOKENS)).filter(
    lambda some: sum(time for _, time in some) <= ROWS_APART
)


@settings(max_examples=3)
@given(texts)
@torch.inference_mode()
def test_texts_together_are_texts_apart(decoder: model.Decoder, some: list[tuple[int, int]]) -> None:
    starts = [start for start, _ in some]
    blocks = [tokens[:, start : start + time] for tokens, (start, time) in zip(TOKENS, some, strict=False)]
    together, apart = begun(decoder, starts), begun(decoder, starts)
    for _ in range(2):  # the second time behind what the first one has cached
        states = decoder.together(list(zip(blocks, together, strict=True)))
        alone = [decoder.hidden(block, cache) for block, cache in zip(blocks, apart, strict=True)]
        logits = decoder.head(torch.cat([state[0] for state in states]))
        assert torch.equal(logits, torch.cat([decoder.head(state[0]) for state in alone]))
        for one, other, cache, own in zip(states, alone, together, apart, strict=True):
            assert torch.equal(one, other)
            assert all(map(torch.equal, kept(cache), kept(own)))


@torch.inference_mode()
def test_a_pass_that_ends_early_or_does_not_fit_counts_nothing() -> None:
    decoder = made(attention="gqa")
    caches = [decoder.new_cache(8), decoder.new_cache(4)]

    def stop() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        decoder.together([(ids(3, 1), caches[0]), (ids(4, 1), caches[1])], stop)
    with pytest.raises(ModelUsageError, match="5 tokens after 0 do not fit a cache of 4"):
        decoder.together([(ids(3, 1), caches[0]), (ids(5, 1), caches[1])])
    assert [cache.length for cache in caches] == [0, 0]
