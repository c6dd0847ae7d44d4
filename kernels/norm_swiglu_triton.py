"""RMS norm, gate, up and SwiGLU in one pass over the weight: a program has the same rows of both halves."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options, rows_of, rows_together
from kernels.tiles import tile


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
    half = N.to(tl.int64) * K
    gate_weights = ()
    up_weights = ()
    for i in tl.static_range(CHUNKS):
        here = k + i * BLOCK_K
        gate_weights += (tl.load(weight_ptr + at + here, mask=inside & (here < K), other=0.0),)
        up_weights += (tl.load(weight_ptr + half + at + here, mask=inside & (here < K), other=0.0),)
    if OVERLAP:
        gdc_wait()
    for first in range(0, rows, ROWS):
        for r in tl.static_range(ROWS):
            # Behind the last row, the last one is computed again and not written.
            row = tl.minimum(first + r, rows - 1)
            valid = n < tl.where(first + r < rows, N, 0)
            gate = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            up = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            squares = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
            for i in tl.static_range(CHUNKS):
                here = k + i * BLOCK_K
                x = tl.load(x_ptr + row * x_stride + here, mask=here < K, other=0.0).to(tl.float32)
                gain = tl.load(gain_ptr + here, mask=here < K, other=0.0).to(tl.float32)
                squares = tl.fma(x, x, squares)
                gate = tl.fma(x * gain, gate_weights[i].to(tl.float32), gate)
                up = tl.fma(x * gain, up_weights[i].to(tl.float32), up)
            scale = tl.rsqrt(tl.sum(squares, 1) / K + eps)
            g = tl.sum(gate, 1) * scale
            u = tl.sum(up, 1) * scale
            if BIAS:
                g += tl.load(bias_ptr + n, mask=n < N, other=0.0).to(tl.float32)
                u += tl.load(bias_ptr + N + n, mask=n < N, other=0.0).to(tl.float32)
            y = g / (1 + tl.exp(-g)) * u
            tl.store(out_ptr + row * N + n, y.to(out_ptr.dtype.element_ty), mask=valid)


def norm_swiglu(x: Tensor, gain: Tensor, eps: float, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = rows_of(x)
    rows, columns, count = len(x), weight.shape[1], weight.shape[0] // 2
    shape = tile("norm_swiglu")
    out = torch.empty(rows, count, dtype=weight.dtype, device=x.device)
    _kernel[(triton.cdiv(count, shape.rows),)](
        x, gain, weight, weight if bias is None else bias, out, rows, count, eps, x.stride(0),
        K=columns, BLOCK_N=shape.rows, BLOCK_K=shape.columns,
        ROWS=rows_together(rows), BIAS=bias is not None, **options(shape.warps, shape.registers),
    )  # fmt: skip
    return out
