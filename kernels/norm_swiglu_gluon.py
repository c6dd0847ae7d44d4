"""RMS norm, gate, up and SwiGLU on matrix units in one pass: a program has the same rows of both halves."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import norm_swiglu_triton
from kernels.launching import options, rows_of, tokens_together
from kernels.matrix_gluon import (
    chunks_of,
    fetch_factors,
    gains,
    loaded_layout,
    multiplied,
    norm_scale,
    out_places,
    reads,
    rows_at,
    stage,
    staged_chunk,
    steps_of,
    sums_layout,
    tokens,
    weights_at,
    widened,
)
from kernels.tiles import BLOCK, matrix_tile
from kernels.weights import Weight, activations, stream


@gluon.jit
def _kernel(
    x_ptr, gain_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, rows, N, eps, x_stride,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: gl.constexpr = chunks_of(K, WARPS, BITS)
    STEPS: gl.constexpr = steps_of(BITS)
    first_n = gl.program_id(0) * BLOCK_N
    # Behind the end of gate begins up: what a program fetches of it there is not written.
    gates = stage(weight_ptr, first_n, 2 * N, K, BLOCK_N, WARPS, BITS)
    ups = stage(weight_ptr, first_n + N, 2 * N, K, BLOCK_N, WARPS, BITS)
    gate_factors = ()
    up_factors = ()
    for i in gl.static_range(CHUNKS):
        gate_factors += (fetch_factors(factor_ptr, first_n, 2 * N, i, K, GROUP, BLOCK_N, WARPS, BITS),)
        up_factors += (fetch_factors(factor_ptr, first_n + N, 2 * N, i, K, GROUP, BLOCK_N, WARPS, BITS),)
    gain = gains(gain_ptr, K, WARPS, TOKENS, BITS)
    if OVERLAP:
        gdc_wait()
    first_m = gl.program_id(1) * TOKENS
    xs = rows_at(x_ptr, tokens(first_m, TOKENS, WARPS), rows, x_stride, K, WARPS, TOKENS, BITS)
    async_copy.wait_group(0)
    gate = gl.zeros([WARPS, multiplied(TOKENS), BLOCK_N], gl.float32, layout=sums_layout(WARPS))
    up = gl.zeros([WARPS, multiplied(TOKENS), BLOCK_N], gl.float32, layout=sums_layout(WARPS))
    squares = gl.zeros([WARPS, TOKENS, 32], gl.float32, layout=loaded_layout(WARPS, TOKENS))
    for i in gl.static_range(CHUNKS):
        gate_numbers = staged_chunk(gates, i, WARPS, BITS)
        up_numbers = staged_chunk(ups, i, WARPS, BITS)
        for s in gl.static_range(STEPS):
            x = xs[i * STEPS + s].to(gl.float32)
            squares = gl.fma(x, x, squares)
            a = widened((x * gain[i * STEPS + s].to(gl.float32)).to(gl.bfloat16), WARPS, TOKENS)
            gate = mma_v2(a, weights_at(gate_numbers, gate_factors[i], s, BLOCK_N, WARPS, BITS), gate)
            up = mma_v2(a, weights_at(up_numbers, up_factors[i], s, BLOCK_N, WARPS, BITS), up)
    scale = norm_scale(squares, K, eps, WARPS, TOKENS)
    gated = gl.sum(gate, 0) * scale
    upped = gl.sum(up, 0) * scale
    out_m, out_n = out_places(first_m, first_n, BLOCK_N, WARPS, TOKENS)
    if BITS == 8:
        gated *= gl.load(factor_ptr + out_n, mask=out_n < N, other=0.0)
        upped *= gl.load(factor_ptr + N + out_n, mask=out_n < N, other=0.0)
    if BIAS:
        gated += gl.load(bias_ptr + out_n, mask=out_n < N, other=0.0).to(gl.float32)
        upped += gl.load(bias_ptr + N + out_n, mask=out_n < N, other=0.0).to(gl.float32)
    small = gl.exp(-gl.abs(gated))  # never overflows
    y = gated * gl.where(gated < 0, small, 1.0) / (1 + small) * upped
    gl.store(out_ptr + out_m * N + out_n, y.to(out_ptr.dtype.element_ty), mask=(out_m < rows) & (out_n < N))


def norm_swiglu(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None) -> Tensor:
    of = stream(weight)
    x = rows_of(x)
    columns, count = of.shape[1], of.shape[0] // 2
    # The larger tile decides for all numbers of rows, which are then added up in one order.
    if not reads(of, "norm_swiglu", parts=2):
        return norm_swiglu_triton.norm_swiglu(x, gain, eps, weight, bias)
    shape = matrix_tile("norm_swiglu_block" if len(x) in BLOCK else "norm_swiglu", of.bits)
    together, turns = tokens_together(len(x))
    out = torch.empty(len(x), count, dtype=activations(weight), device=x.device)
    _kernel[(triton.cdiv(count, shape.rows), turns)](
        x, gain, of.numbers, of.factors, of.numbers if bias is None else bias, out, len(x), count, eps, x.stride(0),
        K=columns, BLOCK_N=shape.rows, WARPS=shape.warps, TOKENS=together, BITS=of.bits, GROUP=of.group,
        BIAS=bias is not None, **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
