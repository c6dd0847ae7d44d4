"""Logits against transformers' on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import model
from tests.tiny import Shape, tokens, write_tiny_gguf, write_tiny_safetensors

SHAPES = {
    "qwen2": Shape("qwen2"),
    "qwen2-tied-one-group": Shape("qwen2", tied=True, groups=1, theta=1e6),
    "llama": Shape("llama"),
    "llama3-scaling-tied": Shape("llama", llama3=True, tied=True, groups=4),
    "llama-narrow-groups": Shape("llama", width=96, heads=6, groups=3, layers=3),
}


def relative_rms(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).pow(2).mean().sqrt() / theirs.pow(2).mean().sqrt())


class Case(NamedTuple):
    folder: Path
    file: Path
    ids: Tensor
    logits: Tensor


@pytest.fixture(params=SHAPES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    shape = SHAPES[request.param]
    folder = tmp_path_factory.mktemp("tiny")
    path = write_tiny_safetensors(folder, shape)
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.randint(len(tokens()), (2, 131), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = theirs(ids).logits
    return Case(path, write_tiny_gguf(folder, shape), ids, logits)


def test_safetensors_equals_transformers(case: Case) -> None:
    ours = model.load(case.folder, dtype="float32")(case.ids)
    assert ours.shape == case.logits.shape
    assert relative_rms(ours, case.logits) <= 1e-5


def test_gguf_equals_transformers(case: Case) -> None:
    assert relative_rms(model.load(case.file, dtype="float32")(case.ids), case.logits) <= 1e-5


@pytest.mark.parametrize("chunks", [(131,), (1,) * 40, (64, 1, 3, 2, 33, 28), (130, 1)])
def test_through_the_cache_in_chunks_equals_transformers(case: Case, chunks: tuple[int, ...]) -> None:
    decoder = model.load(case.folder, dtype="float32")
    cache = decoder.new_cache(256, batch=2)
    count = sum(chunks)
    with torch.inference_mode():
        hidden = [decoder.hidden(part, cache) for part in case.ids[:, :count].split(chunks, dim=1)]
    assert cache.length == count
    assert relative_rms(decoder.head(torch.cat(hidden, 1)), case.logits[:, :count]) <= 1e-5


def test_bfloat16_is_near(case: Case) -> None:
    ours = model.load(case.folder, dtype="bfloat16")(case.ids)
    assert ours.dtype == torch.bfloat16
    assert relative_rms(ours.float(), case.logits) <= 0.02


def test_a_pass_can_be_differentiated(tmp_path: Path) -> None:
    decoder = model.load(write_tiny_safetensors(tmp_path), dtype="float32")
    decoder.requires_grad_(True)
    decoder(torch.tensor([[1, 2, 3]])).logsumexp(-1).sum().backward()
    without = [name for name, weight in decoder.named_parameters() if weight.grad is None]
    assert without == []
