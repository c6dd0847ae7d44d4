"""The best ids of every row: the best of each segment, then the best of those.

A score and its id are one whole number, larger for a larger score and, among equals, for a lower id; the best is a
maximum, and the next best the maximum of what is left.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options, rows_of

SEGMENT = 1024
LOWEST = tl.constexpr(-(2**63))


@triton.jit
def _segments(
    logits_ptr, best_ptr, V, stride,
    SEGMENT: tl.constexpr, COUNT: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    segment = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    v = segment * SEGMENT + tl.arange(0, SEGMENT)
    scores = tl.load(logits_ptr + row * stride + v, mask=v < V, other=float("-inf"))
    bits = (scores + 0.0).to(tl.int32, bitcast=True)  # + 0.0: minus zero equals zero
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - v).to(tl.int64)
    keys = tl.where(v < V, keys, LOWEST)
    for i in tl.static_range(COUNT):
        best = tl.max(keys, 0)
        tl.store(best_ptr + (row * tl.num_programs(0) + segment) * COUNT + i, best)
        keys = tl.where(keys == best, LOWEST, keys)


@triton.jit
def _rows(best_ptr, out_ptr, candidates, SIZE: tl.constexpr, COUNT: tl.constexpr, OVERLAP: tl.constexpr):
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0)
    i = tl.arange(0, SIZE)
    keys = tl.load(best_ptr + row.to(tl.int64) * candidates + i, mask=i < candidates, other=LOWEST)
    for j in tl.static_range(COUNT):
        best = tl.max(keys, 0)
        tl.store(out_ptr + row * COUNT + j, 0x7FFFFFFF - (best & 0x7FFFFFFF).to(tl.int32))
        keys = tl.where(keys == best, LOWEST, keys)


def top_ids(logits: Tensor, count: int) -> Tensor:
    logits = rows_of(logits)
    rows, vocabulary = logits.shape
    segments = triton.cdiv(vocabulary, SEGMENT)
    best = torch.empty(rows, segments * count, dtype=torch.int64, device=logits.device)
    out = torch.empty(rows, count, dtype=torch.int32, device=logits.device)
    _segments[(segments, rows)](logits, best, vocabulary, logits.stride(0), SEGMENT=SEGMENT, COUNT=count, **options(4))
    size = triton.next_power_of_2(segments * count)
    _rows[(rows,)](best, out, segments * count, SIZE=size, COUNT=count, **options(8 if size > 1024 else 4))
    return out
