"""A product and the residual sum in one pass over the weight."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options, rows_of, rows_together
from kernels.streams_triton import fetch, whole
from kernels.tiles import LONG, tile
from kernels.weights import Weight, stream


@triton.jit
def _kernel(
    x_ptr, inner_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, rows, N, x_stride, inner_stride,
    K: tl.constexpr, BLOCK_N: tl.constexpr, LANES: tl.constexpr,
    BITS: tl.constexpr, ROWS: tl.constexpr, BIAS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: tl.constexpr = (K + LANES - 1) // LANES
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    lanes = tl.arange(0, LANES)[None, :] + tl.zeros([BLOCK_N, 1], tl.int32)
    weights = ()
    for i in tl.static_range(CHUNKS):
        weights += (fetch(weight_ptr, n, lanes, i, N, K, LANES),)
    if OVERLAP:
        gdc_wait()
    first = tl.program_id(1) * ROWS
    for r in tl.static_range(ROWS):
        # Behind the last row, the last one is computed again and not written.
        row = tl.minimum(first + r, rows - 1)
        valid = n < tl.where(first + r < rows, N, 0)
        y = tl.load(x_ptr + row * x_stride + n, mask=valid, other=0.0).to(tl.float32)
        dot = tl.zeros([BLOCK_N, LANES], tl.float32)
        for i in tl.static_range(CHUNKS):
            here = lanes + i * LANES
            part = tl.load(inner_ptr + row * inner_stride + here, mask=here < K, other=0.0).to(tl.float32)
            dot = tl.fma(part, weights[i].to(tl.float32), dot)
        product = tl.sum(dot, 1)
        if BITS == 8:
            product *= tl.load(factor_ptr + n, mask=n < N, other=0.0)
        if BIAS:
            product += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
        tl.store(out_ptr + row * N + n, y + product, mask=valid)


def linear_add(x: Tensor, inner: Tensor, weight: Weight, bias: Tensor | None) -> Tensor:
    x, inner = rows_of(x), rows_of(inner)
    of = whole(stream(weight))
    count, columns = of.shape
    shape = tile("linear_add_long" if columns >= LONG else "linear_add", of.bits)
    together, turns = rows_together(len(x))
    out = torch.empty(len(x), count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows), turns)](
        x, inner, of.numbers, of.factors, of.numbers if bias is None else bias, out, len(x), count,
        x.stride(0), inner.stride(0),
        K=columns, BLOCK_N=shape.rows, LANES=shape.lanes, BITS=of.bits,
        ROWS=together, BIAS=bias is not None,
        **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
