"""Blocks whose few rows take one call: where they stand, and that they compute what the modules compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import model
from kernels import backend, native
from model import lora
from model.decoder import Block
from model.one_call import OneCall
from tests.model.test_quantised import relative_rms
from tests.tiny import Shape, write_tiny_safetensors
from tests.train.test_lora import random_adapter

FITS = Shape(width=128, heads=4, groups=2, feed_forward=96, layers=3)
IDS = torch.randint(256, (1, 200), generator=torch.Generator().manual_seed(8))
ROUNDED = 2**-8
"""Half a step of bfloat16, which queries and softmax are rounded to in modules and not in one call."""

pytestmark = pytest.mark.skipif(not native.lanes(), reason="no such instructions here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_safetensors(tmp_path, FITS)


def calls(decoder: model.Decoder) -> list[bool]:
    return [isinstance(block, OneCall) for block in decoder.blocks]


def states(decoder: model.Decoder, *, modules: bool = False) -> torch.Tensor:
    """Behind 150 tokens: blocks of 1, 3, 32 and 14. `modules`: as every other processor computes them."""
    cache = decoder.new_cache(IDS.shape[1])
    found = []
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        if modules:
            patch.setattr(OneCall, "forward", Block.forward)
            patch.setattr(OneCall, "run", Block.run)
        for rows in IDS.split((150, 1, 3, 32, 14), 1):
            found.append(decoder.hidden(rows, cache))
    return torch.cat(found[1:], 1)


def test_it_is_what_the_modules_compute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = model.load(folder, dtype="int8")
    assert calls(decoder) == [True] * 3
    counted = []
    layer = model.one_call.kernels.layer
    monkeypatch.setattr(model.one_call.kernels, "layer", lambda *given: counted.append(len(given[0])) or layer(*given))
    few = states(decoder)
    # The prompt went through modules, and all layers together in one call where there were very few rows.
    assert counted == [1, 3, *[32] * 3, *[14] * 3]
    assert relative_rms(few, states(decoder, modules=True)) <= ROUNDED


def test_an_adapter_that_comes_later_is_taken_in(folder: Path) -> None:
    decoder = model.load(folder, dtype="int8")
    before = states(decoder)
    switch = lora.attach_eight_bits(decoder, random_adapter(model.load(folder, dtype="float32"), 5, 3))
    adapted = states(decoder)
    assert relative_rms(adapted, states(decoder, modules=True)) <= ROUNDED
    assert relative_rms(adapted, before) > 0.1
    with switch.set(False):
        assert torch.equal(states(decoder), before)
    assert torch.equal(states(decoder), adapted)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (FITS, "int4"),
        (FITS, "float32"),
        (FITS, "bfloat16"),
        (Shape(width=72, heads=6, groups=2, feed_forward=88), "int8"),
    ],
)
def test_others_stay_as_they_are(tmp_path: Path, shape: Shape, dtype: str) -> None:
    assert not any(calls(model.load(write_tiny_safetensors(tmp_path, shape), dtype=dtype)))


def test_another_backend_is_asked_for(folder: Path) -> None:
    with backend.use("aten"):
        assert not any(calls(model.load(folder, dtype="int8")))
