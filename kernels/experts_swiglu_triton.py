"""RMS norm, gate, up and SwiGLU of chosen experts: a program has some rows of one expert, for one row that chose it.

A program learns from the router's list whose matrix it reads; those of slots that are not used read nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.experts_triton import at_once, fetch, fetch_factors, lanes_of, times, words_of
from kernels.launching import options, rows_of
from kernels.weights import Weight, activations, shape_of, stream

BLOCK = 8
"""Features inside an expert that a program computes."""


@triton.jit
def _swiglu(
    x_ptr, gain_ptr, weight_ptr, factor_ptr, out_ptr, rows, n, eps,
    WIDTH: tl.constexpr, K: tl.constexpr, LINE: tl.constexpr, LANES: tl.constexpr, WORDS: tl.constexpr,
    BLOCK: tl.constexpr, BITS: tl.constexpr,
):  # fmt: skip
    """Rows [2 · BLOCK] of a weight, gates and ups in turn, and where their results n [BLOCK] go."""
    valid = (tl.program_id(0) * BLOCK + tl.arange(0, 2 * BLOCK) // 2 < WIDTH)[:, None]
    dot = tl.zeros([2 * BLOCK, LANES], tl.float32)
    squares = tl.zeros([LANES], tl.float32)
    for first in range(0, LINE, LANES):
        lane = first + tl.arange(0, LANES)
        there = valid & (lane < LINE)[None, :]
        numbers = fetch(weight_ptr, rows, there, lane, LINE)
        factors = fetch_factors(factor_ptr, rows, there, lane, LINE, WORDS, BITS)
        more, of_x = times(numbers, factors, x_ptr, gain_ptr, lane, LINE, True, BITS)
        dot += more
        squares += of_x
    sums = tl.sum(dot, 1) * tl.rsqrt(tl.sum(squares, 0) / K + eps)
    gate, up = tl.split(tl.reshape(sums, [BLOCK, 2]))
    small = tl.exp(-tl.abs(gate))  # never overflows
    y = gate * tl.where(gate < 0, small, 1.0) / (1 + small) * up
    tl.store(out_ptr + n, y.to(out_ptr.dtype.element_ty), mask=n < WIDTH)


@triton.jit
def _kernel(
    x_ptr, gain_ptr, ids_ptr, weight_ptr, factor_ptr, shared_ptr, shared_factor_ptr, out_ptr, eps, x_stride,
    EXPERTS: tl.constexpr, SLOTS: tl.constexpr, SHARES: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
    LINE: tl.constexpr, LANES: tl.constexpr, WORDS: tl.constexpr, BITS: tl.constexpr,
    SHARED_LINE: tl.constexpr, SHARED_LANES: tl.constexpr, SHARED_WORDS: tl.constexpr, SHARED_BITS: tl.constexpr,
    BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    slot = tl.program_id(1)
    row = tl.program_id(2)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    both = tl.arange(0, 2 * BLOCK)
    feature = tl.program_id(0) * BLOCK + both // 2
    half = both % 2
    out = out_ptr + (row * (SLOTS + SHARES) + slot) * WIDTH
    if OVERLAP:
        gdc_wait()
    if slot < SLOTS:
        expert = tl.load(ids_ptr + row * SLOTS + slot)
        if expert < EXPERTS:
            rows = expert.to(tl.int64) * (2 * WIDTH) + half * WIDTH + feature
            _swiglu(
                x_ptr + row * x_stride, gain_ptr, weight_ptr, factor_ptr, out, rows, n, eps,
                WIDTH, K, LINE, LANES, WORDS, BLOCK, BITS,
            )  # fmt: skip
    else:
        shared = (slot - SLOTS).to(tl.int64) * WIDTH + half * (SHARES * WIDTH) + feature
        _swiglu(
            x_ptr + row * x_stride, gain_ptr, shared_ptr, shared_factor_ptr, out, shared, n, eps,
            WIDTH, K, SHARED_LINE, SHARED_LANES, SHARED_WORDS, BLOCK, SHARED_BITS,
        )  # fmt: skip


def experts_swiglu(
    x: Tensor, gain: Tensor, eps: float, ids: Tensor, weight: Weight, shared: Weight | None, width: int
) -> Tensor:
    x, ids = rows_of(x), ids.contiguous()
    of, common = stream(weight), stream(weight if shared is None else shared)
    shares = 0 if shared is None else shape_of(shared)[0] // (2 * width)
    slots = ids.shape[1]
    out = torch.empty(len(x), slots + shares, width, dtype=activations(weight), device=x.device)
    _kernel[(triton.cdiv(width, BLOCK), slots + shares, len(x))](
        x, gain, ids, of.numbers, of.factors, common.numbers, common.factors, out, eps, x.stride(0),
        EXPERTS=of.shape[0] // (2 * width), SLOTS=slots, SHARES=shares, WIDTH=width, K=of.shape[1],
        LINE=lanes_of(of), LANES=at_once(lanes_of(of), 2 * BLOCK), WORDS=words_of(of), BITS=of.bits,
        SHARED_LINE=lanes_of(common), SHARED_LANES=at_once(lanes_of(common), 2 * BLOCK),
        SHARED_WORDS=words_of(common), SHARED_BITS=common.bits, BLOCK=BLOCK, **options(4),
    )  # fmt: skip
    return out
