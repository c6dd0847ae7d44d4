"""RMS norm, gate, up and SwiGLU in one pass over the weight: a program has the same rows of both halves."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options, rows_of, rows_together
from kernels.streams_triton import fetch, whole
from kernels.tiles import tile
from kernels.weights import Weight, activations, stream


@triton.jit
def _kernel(
    x_ptr, gain_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, rows, N, eps, x_stride,
    K: tl.constexpr, BLOCK_N: tl.constexpr, LANES: tl.constexpr,
    BITS: tl.constexpr, ROWS: tl.constexpr, BIAS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: tl.constexpr = (K + LANES - 1) // LANES
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    both = tl.where(n < N, n, 2 * N)  # behind the end of gate begins up
    lanes = tl.arange(0, LANES)[None, :] + tl.zeros([BLOCK_N, 1], tl.int32)
    gate_weights = ()
    up_weights = ()
    for i in tl.static_range(CHUNKS):
        gate_weights += (fetch(weight_ptr, both, lanes, i, 2 * N, K, LANES),)
        up_weights += (fetch(weight_ptr, both + N, lanes, i, 2 * N, K, LANES),)
    if OVERLAP:
        gdc_wait()
    first = tl.program_id(1) * ROWS
    for r in tl.static_range(ROWS):
        # Behind the last row, the last one is computed again and not written.
        row = tl.minimum(first + r, rows - 1)
        gate = tl.zeros([BLOCK_N, LANES], tl.float32)
        up = tl.zeros([BLOCK_N, LANES], tl.float32)
        squares = tl.zeros([BLOCK_N, LANES], tl.float32)
        for i in tl.static_range(CHUNKS):
            here = lanes + i * LANES
            x = tl.load(x_ptr + row * x_stride + here, mask=here < K, other=0.0).to(tl.float32)
            squares = tl.fma(x, x, squares)
            x *= tl.load(gain_ptr + here, mask=here < K, other=0.0).to(tl.float32)
            gate = tl.fma(x, gate_weights[i].to(tl.float32), gate)
            up = tl.fma(x, up_weights[i].to(tl.float32), up)
        scale = tl.rsqrt(tl.sum(squares, 1) / K + eps)
        gated = tl.sum(gate, 1) * scale
        upped = tl.sum(up, 1) * scale
        if BITS == 8:
            gated *= tl.load(factor_ptr + n, mask=n < N, other=0.0)
            upped *= tl.load(factor_ptr + N + n, mask=n < N, other=0.0)
        if BIAS:
            gated += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
            upped += tl.load(bias_ptr + N + n, mask=n < N, other=0.0).to(tl.float32)
        small = tl.exp(-tl.abs(gated))  # never overflows
        y = gated * tl.where(gated < 0, small, 1.0) / (1 + small) * upped
        valid = n < tl.where(first + r < rows, N, 0)
        tl.store(out_ptr + row * N + n, y.to(out_ptr.dtype.element_ty), mask=valid)


def norm_swiglu(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None) -> Tensor:
    x = rows_of(x)
    of = whole(stream(weight))
    columns, count = of.shape[1], of.shape[0] // 2
    shape = tile("norm_swiglu", of.bits)
    together, turns = rows_together(len(x))
    out = torch.empty(len(x), count, dtype=activations(weight), device=x.device)
    _kernel[(triton.cdiv(count, shape.rows), turns)](
        x, gain, of.numbers, of.factors, of.numbers if bias is None else bias, out, len(x), count, eps, x.stride(0),
        K=columns, BLOCK_N=shape.rows, LANES=shape.lanes, BITS=of.bits,
        ROWS=together, BIAS=bias is not None,
        **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
