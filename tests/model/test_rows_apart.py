"""A row of a pass comes out the same, bit for bit, whatever rows are computed beside it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import model
from model import lora
from model.layers import ROWS_APART
from tests.tiny import Shape, write_tiny_safetensors
from tests.train.test_lora import random_adapter

# Widths that fill no vector, three rows to a group, and, last, an inner width whose products are summed in parts.
SHAPES = {
    "odd": Shape(width=72, heads=6, groups=2, feed_forward=88, layers=3),
    "llama": Shape("llama", width=48, heads=3, groups=1, feed_forward=71),
    "tall": Shape(width=128, heads=4, groups=2, feed_forward=4864),
}
DTYPES = ("int8", "int4", "bfloat16", "float32")
LONGEST_PROMPT, MOST_BLOCKS = 300, 4
IDS = torch.randint(256, (1, LONGEST_PROMPT + MOST_BLOCKS * ROWS_APART), generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module", params=[(shape, dtype) for shape in SHAPES for dtype in DTYPES], ids="-".join)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> model.Decoder:
    shape, dtype = request.param
    path = write_tiny_safetensors(tmp_path_factory.mktemp("rows"), SHAPES[shape])
    made = model.load(path, dtype=dtype)
    adapter = random_adapter(model.load(path, dtype="float32"), 5, 3)
    if dtype in ("int8", "int4"):
        lora.attach_eight_bits(made, adapter)
    else:
        lora.attach(made, adapter)
    return made


def scored(decoder: model.Decoder, start: int, blocks: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """After a prompt of `start` tokens, passes of so many rows: their states, their logits, and what is cached."""
    cache = decoder.new_cache(len(IDS[0]))
    if start:
        decoder.hidden(IDS[:, :start], cache)
    hidden = [decoder.hidden(block, cache) for block in IDS[:, start : start + sum(blocks)].split(blocks, 1)]
    logits = torch.cat([decoder.head(rows) for rows in hidden], 1)
    kept = torch.stack([torch.cat([rows[:, :, : cache.length] for rows in layer.rows], 1) for layer in cache.layers])
    return torch.cat(hidden, 1), logits, kept


@settings(max_examples=12)
@given(
    start=st.integers(0, LONGEST_PROMPT),
    blocks=st.lists(st.integers(1, ROWS_APART), min_size=1, max_size=MOST_BLOCKS),
)
@example(start=LONGEST_PROMPT, blocks=[ROWS_APART] * MOST_BLOCKS)
@torch.inference_mode()
def test_rows_together_are_rows_apart(decoder: model.Decoder, start: int, blocks: list[int]) -> None:
    for together, apart in zip(scored(decoder, start, blocks), scored(decoder, start, [1] * sum(blocks)), strict=True):
        assert torch.equal(together, apart)


# Of floating-point weights, MKL and oneDNN may give every thread a part of a sum.
@pytest.mark.parametrize("decoder", [(shape, dtype) for shape in SHAPES for dtype in ("int8", "int4")], indirect=True)
@pytest.mark.parametrize("threads", [2, 3])
@torch.inference_mode()
def test_the_number_of_threads_changes_nothing(decoder: model.Decoder, threads: int) -> None:
    before = torch.get_num_threads()
    found = []
    for count in (1, threads):
        torch.set_num_threads(count)
        try:
            found.append(scored(decoder, 133, [3, 1, 17]))
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(one, many) for one, many in zip(*found, strict=True))
