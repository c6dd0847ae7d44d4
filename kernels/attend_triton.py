"""Attention over one chunk of keys per program, or every eighth.

A program has one row, one group and one chunk at a time: the heads of the group are the rows of its matrix products.
Chunks lie at fixed places, so a row is summed in the same order whichever rows are computed beside it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.finishing import MOST_CHUNKS
from kernels.launching import INTERPRETED, options


@triton.jit
def _kernel(
    q_ptr, keys_ptr, values_ptr, start_ptr, means_ptr, sums_ptr,
    capacity, scale,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr, SHARED: tl.constexpr,
    CHUNK: tl.constexpr, EXACT: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    chunk = tl.program_id(0)
    chunks = tl.num_programs(0)
    group = tl.program_id(1)
    row = tl.program_id(2)
    PER_GROUP: tl.constexpr = HEADS // GROUPS
    # The start was written before the first kernel of the pass began.
    here = tl.load(start_ptr) + row
    if chunk * CHUNK <= here:  # the others have nothing to wait for
        if OVERLAP:
            gdc_wait()
        d = tl.arange(0, WIDTH)
        h = tl.arange(0, SHARED)
        heads = (h < PER_GROUP)[:, None] & (d < WIDTH)[None, :]
        first = row * HEADS + group * PER_GROUP
        q = tl.load(q_ptr + (first + h)[:, None] * WIDTH + d[None, :], mask=heads, other=0.0)
        top = tl.full([SHARED], float("-inf"), tl.float32)
        total = tl.zeros([SHARED], tl.float32)
        mean = tl.zeros([SHARED, WIDTH], tl.float32)
        for begin in range(chunk * CHUNK, here + 1, chunks * CHUNK):
            s = begin + tl.arange(0, CHUNK)
            kept = (group.to(tl.int64) * capacity + s.to(tl.int64))[:, None] * WIDTH + d[None, :]
            seen = (s <= tl.minimum(here, capacity - 1))[:, None] & (d < WIDTH)[None, :]
            k = tl.load(keys_ptr + kept, mask=seen, other=0.0)
            v = tl.load(values_ptr + kept, mask=seen, other=0.0)
            if EXACT:
                q, k, v = q.to(tl.float32), k.to(tl.float32), v.to(tl.float32)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee")
            scores = tl.where((s <= here)[None, :], scores * scale, float("-inf"))
            higher = tl.maximum(top, tl.max(scores, 1))
            before = tl.exp2(top - higher)
            weights = tl.exp2(scores - higher[:, None])
            total = total * before + tl.sum(weights, 1)
            mean = mean * before[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
            top = higher
        found = (first + h) * chunks + chunk
        tl.store(
            means_ptr + found[:, None] * WIDTH + d[None, :],
            (mean / total[:, None]).to(q_ptr.dtype.element_ty),
            mask=heads,
        )
        tl.store(sums_ptr + found, top + tl.log2(total), mask=h < PER_GROUP)


def attend(q: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    q = q.contiguous()
    groups, capacity, width = keys.shape
    rows, heads = len(q), q.shape[1] // width
    chunks = min(triton.cdiv(capacity, chunk), MOST_CHUNKS)
    means = torch.empty(rows, heads, chunks, width, dtype=q.dtype, device=q.device)
    sums = torch.empty(rows, heads, chunks, dtype=torch.float32, device=q.device)
    _kernel[(chunks, groups, rows)](
        q, keys, values, start, means, sums, capacity, width**-0.5 * 1.4426950408889634,
        HEADS=heads, GROUPS=groups, WIDTH=width, SHARED=max(16, triton.next_power_of_2(heads // groups)),
        CHUNK=chunk, EXACT=INTERPRETED or keys.dtype == torch.float32, **options(4, stages=1),
    )  # fmt: skip
    return means, sums
