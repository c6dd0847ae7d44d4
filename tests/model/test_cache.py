"""The cache: whatever was done to it, it holds what a fresh one would."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import model
from model.attention import attention
from model.cache import Row
from model.decoder import PIECE
from tests.tiny import write_tiny_gguf


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> model.Decoder:
    return model.load(write_tiny_gguf(tmp_path_factory.mktemp("tiny"), context=4096))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=6), seed=st.integers(0, 99))
@torch.inference_mode()
def test_extend_and_truncate_equal_a_fresh_pass(
    decoder: model.Decoder, steps: list[tuple[int, float]], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    cache, kept = decoder.new_cache(256), torch.empty(1, 0, dtype=torch.long)
    for count, share in steps:
        new = torch.randint(270, (1, count), generator=random)
        hidden = decoder.hidden(new, cache)
        kept = torch.cat([kept, new], 1)
        expected = decoder.hidden(kept)[:, -count:]
        assert (hidden - expected).norm() <= 1e-5 * expected.norm()
        kept = kept[:, : int(share * kept.shape[1])]
        cache.truncate(kept.shape[1])
    assert cache.length == kept.shape[1]


@torch.inference_mode()
def test_a_long_prompt_goes_through_in_pieces(decoder: model.Decoder) -> None:
    ids = torch.randint(270, (1, 2 * PIECE + 7), generator=torch.Generator().manual_seed(3))
    cache = decoder.new_cache(2 * PIECE + 7)
    starts = []
    block = decoder.blocks[0]
    handle = block.register_forward_pre_hook(lambda module, inputs: starts.append((inputs[1].start, inputs[1].time)))
    hidden = decoder.hidden(ids, cache)
    handle.remove()
    assert starts == [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 7)]
    expected = decoder.hidden(ids)
    assert (hidden - expected).norm() <= 1e-5 * expected.norm()


@torch.inference_mode()
def test_an_interrupted_pass_leaves_nothing_behind(decoder: model.Decoder) -> None:
    ids = torch.arange(1, 20).unsqueeze(0)
    cache = decoder.new_cache(64)
    decoder.hidden(ids, cache)

    def interrupt(module: object, inputs: object) -> None:
        raise KeyboardInterrupt

    handle = decoder.blocks[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        decoder.hidden(ids + 100, cache)
    handle.remove()
    assert cache.length == 19
    both = torch.cat([ids, ids + 50], 1)
    assert torch.allclose(decoder.hidden(ids + 50, cache), decoder.hidden(both)[:, 19:], atol=1e-5)


def test_misuse_names_the_value(decoder: model.Decoder) -> None:
    cache = decoder.new_cache(8)
    with pytest.raises(model.ModelUsageError, match="9 tokens after 0 do not fit a cache of 8"):
        decoder.hidden(torch.ones(1, 9, dtype=torch.long), cache)
    with pytest.raises(model.ModelUsageError, match="of 0 positions to 1"):
        cache.truncate(1)
    with pytest.raises(model.ModelUsageError, match="made for 4096"):
        decoder.new_cache(4097)
    with pytest.raises(model.ModelUsageError, match="cache of 0"):
        decoder.new_cache(0)
    with pytest.raises(model.ModelUsageError, match=r"\[3\]"):
        decoder.hidden(torch.ones(3, dtype=torch.long))


def test_what_attention_declares_is_what_is_allocated(decoder: model.Decoder) -> None:
    rows = attention(decoder.config.attention).rows(decoder.config, 0)
    assert rows == (Row(2, 16), Row(2, 16))
    kept = decoder.new_cache(5, batch=3).layers[0].extend(0, *(torch.ones(3, 2, 4, 16) for _ in rows))
    assert [tuple(row.shape) for row in kept] == [(3, 2, 4, 16)] * 2
