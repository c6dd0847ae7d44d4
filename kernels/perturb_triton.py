"""Scores and Gumbel noise: one program for each row and segment, which hashes its ids."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options

SEGMENT = 1024


@triton.jit
def _mixed(words):
    """`kernels.perturb_reference.mixed`, of uint32."""
    words = (words ^ (words >> 16)) * 0x85EBCA6B
    words = (words ^ (words >> 13)) * 0xC2B2AE35
    return words ^ (words >> 16)


@triton.jit
def _kernel(logits_ptr, keys_ptr, out_ptr, V, stride, temperature, SEGMENT: tl.constexpr, OVERLAP: tl.constexpr):
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(1).to(tl.int64)
    v = tl.program_id(0) * SEGMENT + tl.arange(0, SEGMENT)
    first = tl.load(keys_ptr + 2 * row).to(tl.uint32, bitcast=True)
    second = tl.load(keys_ptr + 2 * row + 1).to(tl.uint32, bitcast=True)
    words = _mixed(_mixed(v.to(tl.uint32) + first) + second)
    share = ((words & 0x7FFFFFFF).to(tl.float32) + 0.5) * 4.656612873077393e-10
    share = tl.minimum(share, 0.99999994)
    # There is no log1p: near 0, the first terms of its series.
    near = share * (1 + share * (0.5 + share * (0.33333334 + share * 0.25)))
    rate = tl.where(share < 0.01, near, -tl.log(1 - share))
    logits = tl.load(logits_ptr + row * stride + v, mask=v < V, other=0.0)
    tl.store(out_ptr + row * V + v, logits / temperature - tl.log(rate), mask=v < V)


def perturb(logits: Tensor, keys: Tensor, temperature: float) -> Tensor:
    rows, vocabulary = logits.shape
    y = torch.empty(rows, vocabulary, device=logits.device)
    grid = (triton.cdiv(vocabulary, SEGMENT), rows)
    given = (logits, keys, y, vocabulary, logits.stride(0), float(temperature))
    _kernel[grid](*given, SEGMENT=SEGMENT, **options(4, first=True))
    return y
