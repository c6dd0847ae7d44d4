"""RMS norm and a product in one pass over the weight.

Each program norms the rows for itself: they are few and short, and nothing then waits for a norm of its own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options, rows_of, rows_together
from kernels.streams_triton import fetch, scaled, whole
from kernels.tiles import VOCABULARY, tile
from kernels.weights import Head, stream


@triton.jit
def _kernel(
    x_ptr, gain_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, rows, N, eps, x_stride,
    K: tl.constexpr, BLOCK_N: tl.constexpr, LANES: tl.constexpr, PARTS: tl.constexpr,
    BITS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, BIAS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: tl.constexpr = (K + LANES - 1) // LANES
    first_n = tl.program_id(0) * (BLOCK_N * PARTS) + tl.arange(0, BLOCK_N)
    lanes = tl.arange(0, LANES)[None, :] + tl.zeros([BLOCK_N, 1], tl.int32)
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    weights = ()
    for i in tl.static_range(CHUNKS):
        for j in tl.static_range(PARTS):
            n = first_n + j * BLOCK_N
            numbers = fetch(weight_ptr, n, lanes, i, N, K, LANES)
            if BITS == 8 and GROUP:
                numbers = scaled(numbers, factor_ptr, n, lanes, i, N, K, GROUP, LANES)
            weights += (numbers,)
    if OVERLAP:
        gdc_wait()
    first = tl.program_id(1) * ROWS
    for r in tl.static_range(ROWS):
        # Behind the last row, the last one is computed again and not written.
        row = tl.minimum(first + r, rows - 1)
        squares = tl.zeros([BLOCK_N, LANES], tl.float32)
        dots = ()
        for _ in tl.static_range(PARTS):
            dots += (tl.zeros([BLOCK_N, LANES], tl.float32),)
        for i in tl.static_range(CHUNKS):
            here = lanes + i * LANES
            x = tl.load(x_ptr + row * x_stride + here, mask=here < K, other=0.0).to(tl.float32)
            squares = tl.fma(x, x, squares)
            x *= tl.load(gain_ptr + here, mask=here < K, other=0.0).to(tl.float32)
            # The parts share what is loaded of x.
            sums = ()
            for j in tl.static_range(PARTS):
                sums += (tl.fma(x, weights[i * PARTS + j].to(tl.float32), dots[j]),)
            dots = sums
        scale = tl.rsqrt(tl.sum(squares, 1) / K + eps)
        for j in tl.static_range(PARTS):
            n = first_n + j * BLOCK_N
            y = tl.sum(dots[j], 1) * scale
            if BITS == 8 and not GROUP:
                y *= tl.load(factor_ptr + n, mask=n < N, other=0.0)
            if BIAS:
                y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
            valid = n < tl.where(first + r < rows, N, 0)
            tl.store(out_ptr + row.to(tl.int64) * N + n, y, mask=valid)


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None) -> Tensor:
    x = rows_of(x)
    of = whole(stream(weight))
    count, columns = of.shape
    shape = tile("norm_linear_vocabulary" if count >= VOCABULARY else "norm_linear", of.bits)
    together, turns = rows_together(len(x))
    out = torch.empty(len(x), count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows * shape.parts), turns)](
        x, gain, of.numbers, of.factors, of.numbers if bias is None else bias, out, len(x), count, eps, x.stride(0),
        K=columns, BLOCK_N=shape.rows, LANES=shape.lanes, PARTS=shape.parts, BITS=of.bits, GROUP=of.group,
        ROWS=together, BIAS=bias is not None,
        **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
