"""Attention over chunks put together: one program for each head of each row.

Up to eight chunks are added one after the other, as `kernels.finish_phases_gluon` adds them.
"""

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
    each = tl.arange(0, TURN)
    top = tl.full([], -3e38, tl.float32)
    total = tl.zeros([WIDTH], tl.float32)
    mean = tl.zeros([WIDTH], tl.float32)
    for first in range(0, seen, TURN):
        logs = tl.load(sums_ptr + at * chunks + first + each, mask=first + each < seen, other=float("-inf"))
        higher = tl.maximum(top, tl.max(logs, 0))
        before = tl.exp2(top - higher)
        total = total * before
        mean = mean * before
        for c in tl.static_range(TURN):
            place = at * chunks + first + c
            there = d < (seen - first - c) * WIDTH
            log = tl.load(sums_ptr + place + d * 0, mask=there, other=float("-inf"))
            part = tl.load(means_ptr + place * WIDTH + d, mask=there, other=0.0)
            weight = tl.exp2(log - higher)
            total += weight
            mean += part.to(tl.float32) * weight
        top = higher
    mean = mean / tl.maximum(total, 1e-30)
    tl.store(out_ptr + at * WIDTH + d, mean.to(out_ptr.dtype.element_ty))


def merge(means: Tensor, sums: Tensor, start: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    means, sums = means.contiguous(), sums.contiguous()
    rows, heads, chunks, width = means.shape
    out = torch.empty(rows, heads * width, dtype=dtype, device=means.device)
    _kernel[(heads, rows)](means, sums, start, out, chunks, chunk, WIDTH=width, TURN=8, **options(2))
    return out
