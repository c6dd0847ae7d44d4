"""The kernels for latent attention and experts compile for compute capability 9.0, and keep to its registers."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import launching
from kernels.experts import Routing
from kernels.latent import Heads
from kernels.weights import Weight
from tests.kernels.test_pairs_block import few_bits
from tests.kernels.test_pairs_experts import PLAIN
from tests.kernels.test_pairs_latent import LARGE

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]
ROWS = 3
SPILLED = 64
"""Bytes that a program may spill: a few registers of 255."""


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def compiled(op: str, monkeypatch: pytest.MonkeyPatch, folder: Path, *given: Any) -> str:
    """The PTX of what `op` launches, with overlapping kernels."""
    from tests.kernels.compiled import Compiling

    module = importlib.import_module(f"kernels.{op}_triton")
    kernel = Compiling(module._kernel, folder)
    monkeypatch.setattr(module, "_kernel", kernel)
    monkeypatch.setattr(launching, "overlaps", lambda: True)
    getattr(module, op)(*given)
    (found,) = kernel.found
    assert found.spilled <= SPILLED and found.shared <= 100_000, found[:3]
    assert "griddepcontrol.wait" in found.ptx and "griddepcontrol.launch_dependents" in found.ptx
    return found.ptx


def test_noise_and_chunks_that_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled("perturb", monkeypatch, tmp_path, empty(ROWS, 151_936), empty(ROWS, 2, dtype=torch.int32), 0.6)
    means, sums = empty(ROWS, 14, 8, 64, dtype=torch.bfloat16), empty(ROWS, 14, 8)
    start = empty(1, dtype=torch.int32)
    compiled("merge", monkeypatch, tmp_path, means, sums, start, 128, torch.bfloat16)


@pytest.mark.parametrize("of", LARGE.values(), ids=LARGE.keys())
def test_latent_attention(of: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bf16, capacity, chunk = torch.bfloat16, 4097, of.chunk(torch.bfloat16)
    up = empty(of.heads * (of.plain + of.value), of.latent, dtype=bf16)
    gain, start = empty(of.latent, dtype=bf16), empty(1, dtype=torch.int32)
    rotation, kept = empty(of.places(capacity), of.rotary), empty(capacity, of.row, dtype=bf16)
    queries, made = empty(ROWS, of.heads * (of.plain + of.rotary)), empty(ROWS, of.latent + of.rotary)
    compiled("absorb", monkeypatch, tmp_path, queries, made, gain, 1e-6, up, rotation, kept, start, of)
    asked, factors = empty(ROWS, of.heads, of.row, dtype=bf16), empty(2, of.heads)
    ptx = compiled("attend_latent", monkeypatch, tmp_path, asked, kept, factors, start, of, chunk)
    assert re.search(r"w?gmma|mma\.sync", ptx) and "ld.global.v4" in ptx
    sums = empty(ROWS, of.heads, -(-capacity // chunk))
    means = empty(*sums.shape, of.latent)
    compiled("merge_latent", monkeypatch, tmp_path, means, sums, up, start, of, chunk, bf16)


@pytest.mark.parametrize(
    ("how", "k", "width", "shares", "bits"),
    [
        (PLAIN, 512, 96, 1, 16),
        (PLAIN, 512, 96, 1, 4),
        (PLAIN._replace(threshold=0.7), 512, 96, 1, 8),
        (Routing(64, 6, 1, 1, False, False, False, 1.0, 0.0, False), 2048, 1408, 2, 16),
    ],
)
def test_experts(
    how: Routing, k: int, width: int, shares: int, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weight(rows: int, columns: int) -> Weight:
        return empty(rows, columns, dtype=torch.bfloat16) if bits == 16 else few_bits(rows, columns, bits, "cpu")

    x, gain, router = empty(ROWS, k), empty(k, dtype=torch.bfloat16), empty(how.experts, k, dtype=torch.bfloat16)
    compiled("route", monkeypatch, tmp_path, x, gain, 1e-6, router, empty(how.experts), how)
    ids, gates = empty(ROWS, how.slots, dtype=torch.int32), empty(ROWS, how.slots)
    many = (weight(2 * width * how.experts, k), weight(2 * width * shares, k), width)
    compiled("experts_swiglu", monkeypatch, tmp_path, x, gain, 1e-6, ids, *many)
    inner = empty(ROWS, how.slots + shares, width, dtype=torch.bfloat16)
    last = (weight(k * how.experts, width), weight(k, shares * width))
    compiled("experts_add", monkeypatch, tmp_path, x, inner, ids, gates, *last)
