"""Attention over chunks put together: one program for each head of each row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options


@triton.jit
def _kernel(
    means_ptr, sums_ptr, start_ptr, out_ptr, chunks, chunk,
    WIDTH: tl.constexpr, TURN: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    head = tl.program_id(0)
    row = tl.program_id(1)
    at = row * tl.num_programs(0) + head
    seen = tl.minimum((tl.load(start_ptr) + row) // chunk + 1, chunks)
    d = tl.arange(0, WIDTH)
    c = tl.arange(0, TURN)
    top = tl.full([], float("-inf"), tl.float32)
    total = tl.full([], 0.0, tl.float32)
    mean = tl.zeros([WIDTH], tl.float32)
    for first in range(0, seen, TURN):
        there = first + c < seen
        sums = tl.load(sums_ptr + at * chunks + first + c, mask=there, other=float("-inf"))
        place = (at * chunks + first + c)[:, None] * WIDTH + d[None, :]
        means = tl.load(means_ptr + place, mask=there[:, None] & (d < WIDTH)[None, :], other=0.0)
        higher = tl.maximum(top, tl.max(sums, 0))
        weights = tl.exp2(sums - higher)
        before = tl.exp2(top - higher)
        total = total * before + tl.sum(weights, 0)
        mean = mean * before + tl.sum(weights[:, None] * means, 0)
        top = higher
    tl.store(out_ptr + at * WIDTH + d, (mean / total).to(out_ptr.dtype.element_ty))


def merge(means: Tensor, sums: Tensor, start: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    means, sums = means.contiguous(), sums.contiguous()
    rows, heads, chunks, width = means.shape
    out = torch.empty(rows, heads * width, dtype=dtype, device=means.device)
    _kernel[(heads, rows)](means, sums, start, out, chunks, chunk, WIDTH=width, TURN=16, **options(2))
    return out
