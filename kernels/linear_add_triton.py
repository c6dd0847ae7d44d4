"""A product and the residual sum in one pass over the weight."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options, rows_of, rows_together
from kernels.tiles import LONG, tile


@triton.jit
def _kernel(
    x_ptr, inner_ptr, weight_ptr, bias_ptr, out_ptr, rows, N, x_stride, inner_stride,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ROWS: tl.constexpr, BIAS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)[None, :] + tl.zeros([BLOCK_N, 1], tl.int32)
    inside = (n < N)[:, None]
    at = n.to(tl.int64)[:, None] * K
    weights = ()
    for i in tl.static_range(CHUNKS):
        here = k + i * BLOCK_K
        weights += (tl.load(weight_ptr + at + here, mask=inside & (here < K), other=0.0),)
    if OVERLAP:
        gdc_wait()
    for first in range(0, rows, ROWS):
        for r in tl.static_range(ROWS):
            # Behind the last row, the last one is computed again and not written.
            row = tl.minimum(first + r, rows - 1)
            valid = n < tl.where(first + r < rows, N, 0)
            y = tl.load(x_ptr + row * x_stride + n, mask=valid, other=0.0).to(tl.float32)
            dot = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for i in tl.static_range(CHUNKS):
                here = k + i * BLOCK_K
                place = row * inner_stride + here
                inner = tl.load(inner_ptr + place, mask=here < K, other=0.0)
                dot = tl.fma(inner.to(tl.float32), weights[i].to(tl.float32), dot)
            product = tl.sum(dot, 1)
            if BIAS:
                product += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
            tl.store(out_ptr + row * N + n, y + product, mask=valid)


def linear_add(x: Tensor, inner: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, inner = rows_of(x), rows_of(inner)
    rows, (count, columns) = len(x), weight.shape
    shape = tile("linear_add_long" if columns >= LONG else "linear_add")
    out = torch.empty(rows, count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows),)](
        x, inner, weight, weight if bias is None else bias, out, rows, count, x.stride(0), inner.stride(0),
        K=columns, BLOCK_N=shape.rows, BLOCK_K=shape.columns,
        ROWS=rows_together(rows), BIAS=bias is not None, **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
