"""Every architecture: a row of a pass comes out the same, bit for bit, whatever rows are computed beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import model
from model.attention import ATTENTIONS
from model.feed_forward.moe import set_routing_strategy
from model.layers import ROWS_APART
from model.saving import save
from tests.model.architecture import CONFIG, ids, made

DTYPES = ("int8", "int4", "bfloat16", "float32")
TOKENS = ids(250, 1)


@pytest.fixture(scope="module", params=[(name, dtype) for name in sorted(ATTENTIONS) for dtype in DTYPES], ids="-".join)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> model.Decoder:
    name, dtype = request.param
    folder = tmp_path_factory.mktemp("apart")
    written = made(attention=name)
    save(written.config, dict(written.named_parameters()), folder)
    return model.load(folder, dtype=dtype)


def scored(decoder: model.Decoder, start: int, blocks: list[int]) -> tuple[Tensor, Tensor]:
    """After a prompt of `start` tokens, passes of so many rows: their states, and their logits."""
    cache = decoder.new_cache(TOKENS.shape[1])
    if start:
        decoder.hidden(TOKENS[:, :start], cache)
    hidden = [decoder.hidden(block, cache) for block in TOKENS[:, start : start + sum(blocks)].split(blocks, 1)]
    return torch.cat(hidden, 1), torch.cat([decoder.head(rows) for rows in hidden], 1)


@settings(max_examples=4)
@given(
    start=st.integers(0, 120),
    blocks=st.lists(st.integers(1, ROWS_APART), min_size=1, max_size=4),
    strategy=st.sampled_from([(0.0, "topk"), (0.3, "topk"), (0.3, "dense")]),
)
@torch.inference_mode()
def test_rows_together_are_rows_apart(
    decoder: model.Decoder, start: int, blocks: list[int], strategy: tuple[float, str]
) -> None:
    set_routing_strategy(decoder, *strategy)
    for together, apart in zip(scored(decoder, start, blocks), scored(decoder, start, [1] * sum(blocks)), strict=True):
        assert torch.equal(together, apart)


def test_a_checkpoint_of_our_own_is_what_was_saved(tmp_path: Path) -> None:
    for name in sorted(ATTENTIONS):
        written = made(attention=name)
        save(written.config, dict(written.named_parameters()), tmp_path / name)
        read = model.load(tmp_path / name, dtype="float32")
        assert read.config == written.config and torch.equal(read(ids(70)), written(ids(70)))
    assert CONFIG.experts is not None
