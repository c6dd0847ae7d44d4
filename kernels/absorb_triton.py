"""Queries turned and absorbed, a program for each head of each row; one more program a row writes the cache.

What makes keys of latents is loaded before the kernel in front of this one has ended.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.latent import Heads
from kernels.launching import options, rows_of

TILE = 8192
"""Numbers of a matrix that a program holds."""


@triton.jit
def _kernel(
    queries_ptr, made_ptr, gain_ptr, up_ptr, rotation_ptr, kept_ptr, start_ptr, out_ptr,
    capacity, eps, queries_stride, made_stride, factor, shift,
    HEADS: tl.constexpr, PLAIN: tl.constexpr, HALF: tl.constexpr, LATENT: tl.constexpr, VALUE: tl.constexpr,
    FEATURES: tl.constexpr, BLOCK_C: tl.constexpr, FAR: tl.constexpr, NORMED: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    ROTARY: tl.constexpr = 2 * HALF
    LINE: tl.constexpr = ROTARY + LATENT + (ROTARY if FAR else 0)
    head = tl.program_id(0)
    row = tl.program_id(1)
    p = tl.arange(0, FEATURES)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    half = tl.arange(0, HALF)
    of_head = (p < tl.where(head < HEADS, PLAIN, 0))[:, None] & (c < LATENT)[None, :]
    keys = tl.load(up_ptr + (head * (PLAIN + VALUE) + p)[:, None] * LATENT + c[None, :], mask=of_head, other=0.0)
    # The start was written before the first kernel of the pass began.
    here = tl.load(start_ptr) + row
    # Rows that only fill a recorded width may lie behind the capacity: they are computed, and nobody reads them.
    place = tl.minimum(here, capacity - 1)
    cos = tl.load(rotation_ptr + place * ROTARY + half)
    sin = tl.load(rotation_ptr + place * ROTARY + HALF + half)
    if FAR:
        coarse = place // factor + tl.where(head < HEADS, shift, 0)
        far_cos = tl.load(rotation_ptr + coarse * ROTARY + half)
        far_sin = tl.load(rotation_ptr + coarse * ROTARY + HALF + half)
    if OVERLAP:
        gdc_wait()
    if head < HEADS:
        query = queries_ptr + row * queries_stride + head * (PLAIN + ROTARY)
        out = out_ptr + (row * HEADS + head) * LINE
        plain = tl.load(query + p, mask=p < PLAIN, other=0.0)
        absorbed = tl.sum(plain[:, None] * keys.to(tl.float32), 0)
        tl.store(out + ROTARY + c, absorbed.to(out_ptr.dtype.element_ty), mask=c < LATENT)
        if tl.program_id(2) == 0:
            low = tl.load(query + PLAIN + half)
            high = tl.load(query + PLAIN + HALF + half)
            tl.store(out + half, (low * cos - high * sin).to(out_ptr.dtype.element_ty))
            tl.store(out + HALF + half, (high * cos + low * sin).to(out_ptr.dtype.element_ty))
            if FAR:
                out += ROTARY + LATENT
                tl.store(out + half, (low * far_cos - high * far_sin).to(out_ptr.dtype.element_ty))
                tl.store(out + HALF + half, (high * far_cos + low * far_sin).to(out_ptr.dtype.element_ty))
    elif (tl.program_id(2) == 0) & (here < capacity):
        made = made_ptr + row * made_stride
        line = kept_ptr + here.to(tl.int64) * LINE
        every = tl.arange(0, LATENT)
        latent = tl.load(made + every)
        if NORMED:
            scale = tl.rsqrt(tl.sum(latent * latent, 0) / LATENT + eps)
            latent = latent * scale * tl.load(gain_ptr + every).to(tl.float32)
        tl.store(line + ROTARY + every, latent.to(kept_ptr.dtype.element_ty))
        low = tl.load(made + LATENT + half)
        high = tl.load(made + LATENT + HALF + half)
        tl.store(line + half, (low * cos - high * sin).to(kept_ptr.dtype.element_ty))
        tl.store(line + HALF + half, (high * cos + low * sin).to(kept_ptr.dtype.element_ty))
        if FAR:
            line += ROTARY + LATENT
            tl.store(line + half, (low * far_cos - high * far_sin).to(kept_ptr.dtype.element_ty))
            tl.store(line + HALF + half, (high * far_cos + low * far_sin).to(kept_ptr.dtype.element_ty))


def absorb(
    queries: Tensor,
    made: Tensor,
    gain: Tensor | None,
    eps: float,
    up: Tensor,
    rotation: Tensor,
    kept: Tensor,
    start: Tensor,
    of: Heads,
) -> Tensor:
    queries, made = rows_of(queries), rows_of(made)
    features = triton.next_power_of_2(max(of.plain, 1))
    block = min(of.latent, max(TILE // features, 16))
    out = torch.empty(len(queries), of.heads, of.row, dtype=kept.dtype, device=kept.device)
    _kernel[(of.heads + 1, len(queries), triton.cdiv(of.latent, block))](
        queries, made, up if gain is None else gain, up, rotation, kept, start, out,
        len(kept), eps, queries.stride(0), made.stride(0), max(of.factor, 1), of.shift,
        HEADS=of.heads, PLAIN=of.plain, HALF=of.rotary // 2, LATENT=of.latent, VALUE=of.value,
        FEATURES=features, BLOCK_C=block, FAR=of.factor > 0, NORMED=gain is not None, **options(4),
    )  # fmt: skip
    return out
