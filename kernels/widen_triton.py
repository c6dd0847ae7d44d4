"""Weights of four bits as numbers: a thread reads a word of eight codes, and writes sixteen bytes.

The interpreter cuts off what a GPU rounds to bfloat16; there the kernel rounds by itself.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents

from kernels.launching import INTERPRETED, options
from kernels.weights import WORD, Four

WORDS = 1024
"""Of a program."""


@triton.jit
def _kernel(
    words_ptr, factors_ptr, out_ptr, count,
    PER_ROW: tl.constexpr, PER_GROUP: tl.constexpr, WORDS: tl.constexpr,
    CUTS_OFF: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    there = word < count
    codes = tl.load(words_ptr + word, mask=there, other=0)
    group = word // PER_ROW * (PER_ROW // PER_GROUP) + word % PER_ROW // PER_GROUP
    factor = tl.load(factors_ptr + group, mask=there, other=0)
    column = tl.arange(0, 8)
    shift = 4 * (column // 2 + 4 * (column % 2))  # kernels.weights.PLACES
    code = ((codes[:, None] >> shift[None, :]) & 15) - 8
    step = (factor << 16).to(tl.float32, bitcast=True)
    offset = (factor & -65536).to(tl.float32, bitcast=True)
    y = code.to(tl.float32) * step[:, None] + offset[:, None]
    if CUTS_OFF:
        bits = y.to(tl.int32, bitcast=True)
        y = (bits + 0x7FFF + ((bits >> 16) & 1) & -65536).to(tl.float32, bitcast=True)
    at = word.to(tl.int64)[:, None] * 8 + column[None, :]
    tl.store(out_ptr + at, y.to(tl.bfloat16), mask=there[:, None] & (column < 8)[None, :])


def widen(weight: Four) -> Tensor:
    words, factors = weight
    rows, per_row = words.shape
    out = torch.empty(rows, per_row * WORD, dtype=torch.bfloat16, device=words.device)
    _kernel[(triton.cdiv(words.numel(), WORDS),)](
        words, factors, out, words.numel(),
        PER_ROW=per_row, PER_GROUP=per_row // factors.shape[1], WORDS=WORDS,
        CUTS_OFF=INTERPRETED, **options(4, first=True),
    )  # fmt: skip
    return out
