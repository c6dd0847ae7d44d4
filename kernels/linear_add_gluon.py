"""A product on matrix units and the residual sum in one pass over the weight."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import linear_add_triton
from kernels.launching import options, rows_of, tokens_together
from kernels.matrix_gluon import (
    chunks_of,
    fetch_factors,
    multiplied,
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
from kernels.tiles import LONG, matrix_tile
from kernels.weights import Weight, stream


@gluon.jit
def _kernel(
    x_ptr, inner_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, rows, N, x_stride, inner_stride,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: gl.constexpr = chunks_of(K, WARPS, BITS)
    STEPS: gl.constexpr = steps_of(BITS)
    first_n = gl.program_id(0) * BLOCK_N
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    staged = stage(weight_ptr, first_n, N, K, BLOCK_N, WARPS, BITS)
    factors = ()
    for i in gl.static_range(CHUNKS):
        factors += (fetch_factors(factor_ptr, first_n, N, i, K, GROUP, BLOCK_N, WARPS, BITS),)
    if OVERLAP:
        gdc_wait()
    first_m = gl.program_id(1) * TOKENS
    m = tokens(first_m, TOKENS, WARPS)
    inner = rows_at(inner_ptr, m, rows, inner_stride, K, WARPS, TOKENS, BITS)
    out_m, out_n = out_places(first_m, first_n, BLOCK_N, WARPS, TOKENS)
    valid = (out_m < rows) & (out_n < N)
    y = gl.load(x_ptr + out_m * x_stride + out_n, mask=valid, other=0.0).to(gl.float32)
    async_copy.wait_group(0)
    sums = gl.zeros([WARPS, multiplied(TOKENS), BLOCK_N], gl.float32, layout=sums_layout(WARPS))
    for i in gl.static_range(CHUNKS):
        numbers = staged_chunk(staged, i, WARPS, BITS)
        for s in gl.static_range(STEPS):
            a = widened(inner[i * STEPS + s].to(gl.bfloat16), WARPS, TOKENS)
            sums = mma_v2(a, weights_at(numbers, factors[i], s, BLOCK_N, WARPS, BITS), sums)
    product = gl.sum(sums, 0)
    if BITS == 8:
        product *= gl.load(factor_ptr + out_n, mask=out_n < N, other=0.0)
    if BIAS:
        product += gl.load(bias_ptr + out_n, mask=out_n < N, other=0.0).to(gl.float32)
    gl.store(out_ptr + out_m * N + out_n, y + product, mask=valid)


def linear_add(x: Tensor, inner: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    of = stream(weight)
    x, inner = rows_of(x), rows_of(inner)
    count, columns = of.shape
    op = "linear_add_long" if columns >= LONG else "linear_add"
    if not reads(of, op):
        return linear_add_triton.linear_add(x, inner, weight, bias)
    shape = matrix_tile(op, of.bits)
    together, turns = tokens_together(len(x))
    out = torch.empty(len(x), count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows), turns)](
        x, inner, of.numbers, of.factors, of.numbers if bias is None else bias, out, len(x), count,
        x.stride(0), inner.stride(0),
        K=columns, BLOCK_N=shape.rows, WARPS=shape.warps, TOKENS=together, BITS=of.bits, GROUP=of.group,
        BIAS=bias is not None, **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
