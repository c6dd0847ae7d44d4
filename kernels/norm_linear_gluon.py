"""RMS norm and a product on matrix units in one pass over the weight.

Each program norms the rows for itself: they are few and short, and nothing then waits for a norm of its own. The norm's
scale comes last, so that what is multiplied is the activation times the gain, in bfloat16.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import norm_linear_triton
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
from kernels.tiles import matrix_tile
from kernels.weights import Weight, stream

OP = "norm_linear"


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
    first_m, first_n = gl.program_id(1) * TOKENS, gl.program_id(0) * BLOCK_N
    # What does not depend on the kernel before this one is under way before it has ended.
    staged = stage(weight_ptr, first_n, N, K, BLOCK_N, WARPS, BITS)
    factors = ()
    for i in gl.static_range(CHUNKS):
        factors += (fetch_factors(factor_ptr, first_n, N, i, K, GROUP, BLOCK_N, WARPS, BITS),)
    gain = gains(gain_ptr, K, WARPS, TOKENS, BITS)
    if OVERLAP:
        gdc_wait()
    xs = rows_at(x_ptr, tokens(first_m, TOKENS, WARPS), rows, x_stride, K, WARPS, TOKENS, BITS)
    async_copy.wait_group(0)
    sums = gl.zeros([WARPS, multiplied(TOKENS), BLOCK_N], gl.float32, layout=sums_layout(WARPS))
    squares = gl.zeros([WARPS, TOKENS, 32], gl.float32, layout=loaded_layout(WARPS, TOKENS))
    for i in gl.static_range(CHUNKS):
        numbers = staged_chunk(staged, i, WARPS, BITS)
        for s in gl.static_range(STEPS):
            x = xs[i * STEPS + s].to(gl.float32)
            squares = gl.fma(x, x, squares)
            a = widened((x * gain[i * STEPS + s].to(gl.float32)).to(gl.bfloat16), WARPS, TOKENS)
            sums = mma_v2(a, weights_at(numbers, factors[i], s, BLOCK_N, WARPS, BITS), sums)
    y = gl.sum(sums, 0) * norm_scale(squares, K, eps, WARPS, TOKENS)
    m, n = out_places(first_m, first_n, BLOCK_N, WARPS, TOKENS)
    if BITS == 8:
        y *= gl.load(factor_ptr + n, mask=n < N, other=0.0)
    if BIAS:
        y += gl.load(bias_ptr + n, mask=n < N, other=0.0).to(gl.float32)
    gl.store(out_ptr + m.to(gl.int64) * N + n, y, mask=(m < rows) & (n < N))


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None) -> Tensor:
    of = stream(weight)
    x = rows_of(x)
    count, columns = of.shape
    if not reads(of, OP):
        return norm_linear_triton.norm_linear(x, gain, eps, weight, bias)
    shape = matrix_tile(OP, of.bits)
    together, turns = tokens_together(len(x))
    out = torch.empty(len(x), count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows), turns)](
        x, gain, of.numbers, of.factors, of.numbers if bias is None else bias, out, len(x), count, eps, x.stride(0),
        K=columns, BLOCK_N=shape.rows, WARPS=shape.warps, TOKENS=together, BITS=of.bits, GROUP=of.group,
        BIAS=bias is not None, **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
