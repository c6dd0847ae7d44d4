"""Rotary positions, the new rows of the cache, and attention over one chunk of keys per program.

A program has one row, one group and one chunk: the heads of the group are the rows of its matrix products. Chunks lie
at fixed places, so a row is summed in the same order whichever rows are computed beside it. Rows that a pass adds are
turned by every program that needs them, rather than waited for.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import INTERPRETED, options


@triton.jit
def _kernel(
    qkv_ptr, rotation_ptr, keys_ptr, values_ptr, start_ptr, means_ptr, sums_ptr,
    capacity, scale,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, HALF: tl.constexpr, SHARED: tl.constexpr,
    CHUNK: tl.constexpr, EXACT: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    chunk = tl.program_id(0)
    group = tl.program_id(1)
    row = tl.program_id(2)
    WIDTH: tl.constexpr = 2 * HALF
    PER_GROUP: tl.constexpr = HEADS // GROUPS
    # The start was written before the first kernel of the pass began, older rows of the cache before that.
    start = tl.load(start_ptr)
    here = start + row
    s = chunk * CHUNK + tl.arange(0, CHUNK)
    half = tl.arange(0, HALF)
    kept = group.to(tl.int64) * capacity * WIDTH + s.to(tl.int64)[:, None] * WIDTH + half[None, :]
    old = (s < tl.minimum(start, capacity))[:, None] & (half < HALF)[None, :]
    k_low = tl.load(keys_ptr + kept, mask=old, other=0.0)
    k_high = tl.load(keys_ptr + kept + HALF, mask=old, other=0.0)
    v_low = tl.load(values_ptr + kept, mask=old, other=0.0)
    v_high = tl.load(values_ptr + kept + HALF, mask=old, other=0.0)
    # Angles depend on the start alone.
    new = ((s >= start) & (s <= tl.minimum(here, capacity - 1)))[:, None] & (half < HALF)[None, :]
    angle = s[:, None] * WIDTH + half[None, :]
    k_cos = tl.load(rotation_ptr + angle, mask=new, other=0.0)
    k_sin = tl.load(rotation_ptr + angle + HALF, mask=new, other=0.0)
    # Rows that only fill a recorded width may lie behind the capacity: they are computed, and nobody reads them.
    turn = tl.minimum(here, capacity - 1) * WIDTH + half
    cos = tl.load(rotation_ptr + turn)[None, :]
    sin = tl.load(rotation_ptr + turn + HALF)[None, :]
    if OVERLAP:
        gdc_wait()
    if chunk * CHUNK <= here:
        LINE: tl.constexpr = (HEADS + 2 * GROUPS) * WIDTH
        if chunk * CHUNK + CHUNK > start:
            line = (s - start)[:, None] * LINE + (HEADS + group) * WIDTH + half[None, :]
            new_low = tl.load(qkv_ptr + line, mask=new, other=0.0)
            new_high = tl.load(qkv_ptr + line + HALF, mask=new, other=0.0)
            k_low = tl.where(new, (new_low * k_cos - new_high * k_sin).to(k_low.dtype), k_low)
            k_high = tl.where(new, (new_high * k_cos + new_low * k_sin).to(k_high.dtype), k_high)
            line += GROUPS * WIDTH
            v_low = tl.where(new, tl.load(qkv_ptr + line, mask=new, other=0.0).to(v_low.dtype), v_low)
            v_high = tl.where(new, tl.load(qkv_ptr + line + HALF, mask=new, other=0.0).to(v_high.dtype), v_high)
            own = (s == tl.where(here < capacity, here, -1))[:, None] & (half < HALF)[None, :]
            tl.store(keys_ptr + kept, k_low, mask=own)
            tl.store(keys_ptr + kept + HALF, k_high, mask=own)
            tl.store(values_ptr + kept, v_low, mask=own)
            tl.store(values_ptr + kept + HALF, v_high, mask=own)

        h = tl.arange(0, SHARED)
        heads = (h < PER_GROUP)[:, None] & (half < HALF)[None, :]
        place = row * LINE + (group * PER_GROUP + h)[:, None] * WIDTH + half[None, :]
        low = tl.load(qkv_ptr + place, mask=heads, other=0.0)
        high = tl.load(qkv_ptr + place + HALF, mask=heads, other=0.0)
        q_low = (low * cos - high * sin).to(k_low.dtype)
        q_high = (high * cos + low * sin).to(k_low.dtype)
        if EXACT:
            q_low, q_high = q_low.to(tl.float32), q_high.to(tl.float32)
            k_low, k_high = k_low.to(tl.float32), k_high.to(tl.float32)
            v_low, v_high = v_low.to(tl.float32), v_high.to(tl.float32)
        scores = tl.dot(q_low, tl.trans(k_low), input_precision="ieee")
        scores += tl.dot(q_high, tl.trans(k_high), input_precision="ieee")
        scores = tl.where((s <= here)[None, :], scores * scale, float("-inf"))
        top = tl.max(scores, 1)
        weights = tl.exp2(scores - top[:, None])
        total = tl.sum(weights, 1)
        mean_low = tl.dot(weights.to(v_low.dtype), v_low, input_precision="ieee") / total[:, None]
        mean_high = tl.dot(weights.to(v_low.dtype), v_high, input_precision="ieee") / total[:, None]
        chunks = tl.num_programs(0)
        found = (row * HEADS + group * PER_GROUP + h) * chunks + chunk
        mean = found[:, None] * WIDTH + half[None, :]
        tl.store(means_ptr + mean, mean_low, mask=heads)
        tl.store(means_ptr + mean + HALF, mean_high, mask=heads)
        tl.store(sums_ptr + found, top + tl.log2(total), mask=h < PER_GROUP)


def attend(
    qkv: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    qkv = qkv.contiguous()
    groups, capacity, width = keys.shape
    rows, heads = len(qkv), qkv.shape[1] // width - 2 * groups
    chunks = triton.cdiv(capacity, chunk)
    means = torch.empty(rows, heads, chunks, width, dtype=torch.float32, device=qkv.device)
    sums = torch.empty(rows, heads, chunks, dtype=torch.float32, device=qkv.device)
    _kernel[(chunks, groups, rows)](
        qkv, rotation, keys, values, start, means, sums, capacity, width**-0.5 * 1.4426950408889634,
        HEADS=heads, GROUPS=groups, HALF=width // 2, SHARED=max(16, triton.next_power_of_2(heads // groups)),
        CHUNK=chunk, EXACT=INTERPRETED or keys.dtype == torch.float32, **options(4),
    )  # fmt: skip
    return means, sums
