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

WIDE = 16_384
"""Features out from which on the weight is a vocabulary's: larger tiles, fewer programs."""


@triton.jit
def _kernel(
    x_ptr, gain_ptr, weight_ptr, bias_ptr, out_ptr, rows, N, eps, x_stride,
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
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    weights = ()
    gains = ()
    for i in tl.static_range(CHUNKS):
        here = k + i * BLOCK_K
        weights += (tl.load(weight_ptr + at + here, mask=inside & (here < K), other=0.0),)
        gains += (tl.load(gain_ptr + here, mask=here < K, other=0.0),)
    if OVERLAP:
        gdc_wait()
    for first in range(0, rows, ROWS):
        for r in tl.static_range(ROWS):
            # Behind the last row, the last one is computed again and not written.
            row = tl.minimum(first + r, rows - 1)
            valid = n < tl.where(first + r < rows, N, 0)
            dot = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            squares = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for i in tl.static_range(CHUNKS):
                here = k + i * BLOCK_K
                x = tl.load(x_ptr + row * x_stride + here, mask=here < K, other=0.0).to(tl.float32)
                squares = tl.fma(x, x, squares)
                dot = tl.fma(x * gains[i].to(tl.float32), weights[i].to(tl.float32), dot)
            y = tl.sum(dot, 1) * tl.rsqrt(tl.sum(squares, 1) / K + eps)
            if BIAS:
                y += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
            tl.store(out_ptr + row.to(tl.int64) * N + n, y, mask=valid)


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = rows_of(x)
    rows, (count, columns) = len(x), weight.shape
    block, warps = (32, 4) if count >= WIDE else (8, 4)
    out = torch.empty(rows, count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, block),)](
        x, gain, weight, weight if bias is None else bias, out, rows, count, eps, x.stride(0),
        K=columns, BLOCK_N=block, BLOCK_K=128, ROWS=rows_together(rows), BIAS=bias is not None, **options(warps),
    )  # fmt: skip
    return out
