"""Attention over one chunk of latent rows per program: up to 16 heads of one row are the rows of its matrix products.

Latents are keys and values: they are loaded once for both. Chunks lie at fixed places, so a row is summed in the same
order whichever rows are computed beside it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.latent import Heads
from kernels.launching import INTERPRETED, options

TOGETHER = 16
"""Heads of a program."""

PART, NARROW = 64, 128
"""Features whose fp32 products are added up one after another, where a latent is not narrow. In one row, 512 of them
make answers 1.2e-6 off, and take up to twice as long."""


@triton.jit
def _kernel(
    queries_ptr, kept_ptr, factors_ptr, start_ptr, means_ptr, sums_ptr, capacity, window,
    HEADS: tl.constexpr, ROTARY: tl.constexpr, LATENT: tl.constexpr, TOGETHER: tl.constexpr,
    CHUNK: tl.constexpr, FAR: tl.constexpr, EXACT: tl.constexpr, PARTS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    LINE: tl.constexpr = ROTARY + LATENT + (ROTARY if FAR else 0)
    chunk = tl.program_id(0)
    row = tl.program_id(2)
    # The start was written before the first kernel of the pass began, older rows of the cache before that.
    start = tl.load(start_ptr)
    here = start + row
    s = chunk * CHUNK + tl.arange(0, CHUNK)
    d = tl.arange(0, ROTARY)
    c = tl.arange(0, LATENT)
    old = (s < tl.minimum(start, capacity))[:, None]
    line = kept_ptr + s.to(tl.int64)[:, None] * LINE
    near = tl.load(line + d[None, :], mask=old & (d < ROTARY)[None, :], other=0.0)
    latent = tl.load(line + ROTARY + c[None, :], mask=old & (c < LATENT)[None, :], other=0.0)
    if FAR:
        far = tl.load(line + (ROTARY + LATENT) + d[None, :], mask=old & (d < ROTARY)[None, :], other=0.0)
    h = tl.program_id(1) * TOGETHER + tl.arange(0, TOGETHER)
    heads = h < HEADS
    near_factor = tl.load(factors_ptr + h, mask=heads, other=0.0)[:, None]
    far_factor = tl.load(factors_ptr + HEADS + h, mask=heads, other=0.0)[:, None]
    if OVERLAP:
        gdc_wait()
    if chunk * CHUNK <= here:
        if chunk * CHUNK + CHUNK > start:
            new = ((s >= start) & (s <= tl.minimum(here, capacity - 1)))[:, None]
            near = tl.where(new, tl.load(line + d[None, :], mask=new & (d < ROTARY)[None, :], other=0.0), near)
            fresh = tl.load(line + ROTARY + c[None, :], mask=new & (c < LATENT)[None, :], other=0.0)
            latent = tl.where(new, fresh, latent)
            if FAR:
                away = line + (ROTARY + LATENT) + d[None, :]
                far = tl.where(new, tl.load(away, mask=new & (d < ROTARY)[None, :], other=0.0), far)
        query = queries_ptr + (row * HEADS + h)[:, None] * LINE
        q_near = tl.load(query + d[None, :], mask=heads[:, None] & (d < ROTARY)[None, :], other=0.0)
        q_latent = tl.load(query + ROTARY + c[None, :], mask=heads[:, None] & (c < LATENT)[None, :], other=0.0)
        if EXACT:
            q_near, q_latent = q_near.to(tl.float32), q_latent.to(tl.float32)
            near, latent = near.to(tl.float32), latent.to(tl.float32)
        if PARTS > 1:
            q_parts = tl.permute(tl.reshape(q_latent, (TOGETHER, PARTS, LATENT // PARTS)), (1, 0, 2))
            parts = tl.permute(tl.reshape(latent, (CHUNK, PARTS, LATENT // PARTS)), (1, 2, 0))
            plain = tl.sum(tl.dot(q_parts, parts, input_precision="ieee"), 0)
        else:
            plain = tl.dot(q_latent, tl.trans(latent), input_precision="ieee")
        scores = (plain + tl.dot(q_near, tl.trans(near), input_precision="ieee")) * near_factor
        if FAR:
            q_far = tl.load(
                query + (ROTARY + LATENT) + d[None, :], mask=heads[:, None] & (d < ROTARY)[None, :], other=0.0
            )
            if EXACT:
                q_far, far = q_far.to(tl.float32), far.to(tl.float32)
            away_scores = (plain + tl.dot(q_far, tl.trans(far), input_precision="ieee")) * far_factor
            scores = tl.where((here - s < window)[None, :], scores, away_scores)
        scores = tl.where((s <= here)[None, :], scores * 1.4426950408889634, float("-inf"))
        top = tl.max(scores, 1)
        weights = tl.exp2(scores - top[:, None])
        total = tl.sum(weights, 1)
        mean = tl.dot(weights.to(latent.dtype), latent, input_precision="ieee") / total[:, None]
        found = (row * HEADS + h) * tl.num_programs(0) + chunk
        tl.store(means_ptr + found[:, None] * LATENT + c[None, :], mean, mask=heads[:, None] & (c < LATENT)[None, :])
        tl.store(sums_ptr + found, top + tl.log2(total), mask=heads)


def attend_latent(
    queries: Tensor, kept: Tensor, factors: Tensor, start: Tensor, of: Heads, chunk: int
) -> tuple[Tensor, Tensor]:
    rows, chunks = len(queries), triton.cdiv(len(kept), chunk)
    means = torch.empty(rows, of.heads, chunks, of.latent, dtype=torch.float32, device=kept.device)
    sums = torch.empty(rows, of.heads, chunks, dtype=torch.float32, device=kept.device)
    exact = INTERPRETED or kept.dtype == torch.float32
    parts = of.latent // PART if exact and of.latent > NARROW else 1
    _kernel[(chunks, triton.cdiv(of.heads, TOGETHER), rows)](
        queries, kept, factors, start, means, sums, len(kept), of.window,
        HEADS=of.heads, ROTARY=of.rotary, LATENT=of.latent, TOGETHER=TOGETHER, CHUNK=chunk, FAR=of.factor > 0,
        EXACT=exact, PARTS=parts, **options(4),
    )  # fmt: skip
    return means, sums
