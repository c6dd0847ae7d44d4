"""Queries and keys turned by their positions, keys and values written into the cache: a program a head of a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options


@triton.jit
def _kernel(
    qkv_ptr, rotation_ptr, q_ptr, keys_ptr, values_ptr, start_ptr, capacity,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, HALF: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    head = tl.program_id(0)
    row = tl.program_id(1)
    WIDTH: tl.constexpr = 2 * HALF
    half = tl.arange(0, HALF)
    here = tl.load(start_ptr) + row
    at = qkv_ptr + (row * (HEADS + 2 * GROUPS) + head) * WIDTH + half
    low, high = tl.load(at).to(tl.float32), tl.load(at + HALF).to(tl.float32)
    # Rows that only fill a recorded width may lie behind the capacity: they are computed, and nobody reads them.
    angle = rotation_ptr + tl.minimum(here, capacity - 1) * WIDTH + half
    cos, sin = tl.load(angle), tl.load(angle + HALF)
    kept = half < tl.where(here < capacity, HALF, 0)
    if head < HEADS:
        to = q_ptr + (row * HEADS + head) * WIDTH + half
        tl.store(to, (low * cos - high * sin).to(q_ptr.dtype.element_ty))
        tl.store(to + HALF, (high * cos + low * sin).to(q_ptr.dtype.element_ty))
    elif head < HEADS + GROUPS:
        to = keys_ptr + ((head - HEADS).to(tl.int64) * capacity + here) * WIDTH + half
        tl.store(to, (low * cos - high * sin).to(keys_ptr.dtype.element_ty), mask=kept)
        tl.store(to + HALF, (high * cos + low * sin).to(keys_ptr.dtype.element_ty), mask=kept)
    else:
        to = values_ptr + ((head - HEADS - GROUPS).to(tl.int64) * capacity + here) * WIDTH + half
        tl.store(to, low.to(values_ptr.dtype.element_ty), mask=kept)
        tl.store(to + HALF, high.to(values_ptr.dtype.element_ty), mask=kept)


def turn(qkv: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor) -> Tensor:
    qkv = qkv.contiguous()
    groups, capacity, width = keys.shape
    heads = qkv.shape[1] // width - 2 * groups
    q = torch.empty(len(qkv), heads * width, dtype=keys.dtype, device=qkv.device)
    _kernel[(heads + 2 * groups, len(qkv))](
        qkv, rotation, q, keys, values, start, capacity,
        HEADS=heads, GROUPS=groups, HALF=width // 2, **options(1),
    )  # fmt: skip
    return q
