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
from kernels.tiles import VOCABULARY, tile


@triton.jit
def _kernel(
    x_ptr, gain_ptr, weight_ptr, bias_ptr, out_ptr, rows, N, eps, x_stride,
    K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PARTS: tl.constexpr,
    ROWS: tl.constexpr, BIAS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    CHUNKS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    first_n = tl.program_id(0) * (BLOCK_N * PARTS) + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)[None, :] + tl.zeros([BLOCK_N, 1], tl.int32)
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    weights = ()
    for i in tl.static_range(CHUNKS):
        here = k + i * BLOCK_K
        for j in tl.static_range(PARTS):
            n = first_n + j * BLOCK_N
            at = n.to(tl.int64)[:, None] * K
            weights += (tl.load(weight_ptr + at + here, mask=(n < N)[:, None] & (here < K), other=0.0),)
    if OVERLAP:
        gdc_wait()
    for first in range(0, rows, ROWS):
        for r in tl.static_range(ROWS):
            # Behind the last row, the last one is computed again and not written.
            row = tl.minimum(first + r, rows - 1)
            squares = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            dots = ()
            for i in tl.static_range(CHUNKS):
                here = k + i * BLOCK_K
                x = tl.load(x_ptr + row * x_stride + here, mask=here < K, other=0.0).to(tl.float32)
                gained = x * tl.load(gain_ptr + here, mask=here < K, other=0.0).to(tl.float32)
                squares = tl.fma(x, x, squares)
                # The parts share what is loaded of x. Sums begin with the first product.
                sums = ()
                for j in tl.static_range(PARTS):
                    before = dots[j] if i else tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
                    sums += (tl.fma(gained, weights[i * PARTS + j].to(tl.float32), before),)
                dots = sums
            scale = tl.rsqrt(tl.sum(squares, 1) / K + eps)
            for j in tl.static_range(PARTS):
                n = first_n + j * BLOCK_N
                y = tl.sum(dots[j], 1) * scale
                if BIAS:
                    y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
                valid = n < tl.where(first + r < rows, N, 0)
                tl.store(out_ptr + row.to(tl.int64) * N + n, y, mask=valid)


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = rows_of(x)
    rows, (count, columns) = len(x), weight.shape
    shape = tile("norm_linear_vocabulary" if count >= VOCABULARY else "norm_linear")
    out = torch.empty(rows, count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows * shape.parts),)](
        x, gain, weight, weight if bias is None else bias, out, rows, count, eps, x.stride(0),
        K=columns, BLOCK_N=shape.rows, BLOCK_K=shape.columns, PARTS=shape.parts,
        ROWS=rows_together(rows), BIAS=bias is not None, **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
