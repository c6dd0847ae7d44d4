"""Chunks of latents put together, and values made of them: a program for some values of each head of each row.

What makes values of latents is loaded before the kernel in front of this one has ended.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.latent import Heads
from kernels.launching import options

TILE = 8192
"""Numbers of a matrix that a program holds."""


@triton.jit
def _kernel(
    means_ptr, sums_ptr, up_ptr, start_ptr, out_ptr, chunks, chunk,
    HEADS: tl.constexpr, PLAIN: tl.constexpr, LATENT: tl.constexpr, VALUE: tl.constexpr,
    BLOCK_V: tl.constexpr, TURN: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    head = tl.program_id(0)
    row = tl.program_id(1)
    v = tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V)
    c = tl.arange(0, LATENT)
    there = (v < VALUE)[:, None] & (c < LATENT)[None, :]
    values = tl.load(
        up_ptr + (head * (PLAIN + VALUE) + PLAIN + v)[:, None] * LATENT + c[None, :], mask=there, other=0.0
    )
    at = row * HEADS + head
    seen = tl.minimum((tl.load(start_ptr) + row) // chunk + 1, chunks)
    t = tl.arange(0, TURN)
    top = tl.full([], float("-inf"), tl.float32)
    total = tl.full([], 0.0, tl.float32)
    mean = tl.zeros([LATENT], tl.float32)
    if OVERLAP:
        gdc_wait()
    for first in range(0, seen, TURN):
        some = first + t < seen
        sums = tl.load(sums_ptr + at * chunks + first + t, mask=some, other=float("-inf"))
        place = (at * chunks + first + t)[:, None] * LATENT + c[None, :]
        means = tl.load(means_ptr + place, mask=some[:, None] & (c < LATENT)[None, :], other=0.0)
        higher = tl.maximum(top, tl.max(sums, 0))
        weights = tl.exp2(sums - higher)
        before = tl.exp2(top - higher)
        total = total * before + tl.sum(weights, 0)
        mean = mean * before + tl.sum(weights[:, None] * means, 0)
        top = higher
    mean = mean / total
    y = tl.sum(values.to(tl.float32) * mean[None, :], 1)
    tl.store(out_ptr + at * VALUE + v, y.to(out_ptr.dtype.element_ty), mask=v < VALUE)


def merge_latent(
    means: Tensor, sums: Tensor, up: Tensor, start: Tensor, of: Heads, chunk: int, dtype: torch.dtype
) -> Tensor:
    rows, heads, chunks, latent = means.shape
    block = min(triton.next_power_of_2(of.value), max(TILE // latent, 1))
    out = torch.empty(rows, heads * of.value, dtype=dtype, device=means.device)
    _kernel[(heads, rows, triton.cdiv(of.value, block))](
        means, sums, up, start, out, chunks, chunk,
        HEADS=heads, PLAIN=of.plain, LATENT=latent, VALUE=of.value, BLOCK_V=block, TURN=8, **options(4),
    )  # fmt: skip
    return out
