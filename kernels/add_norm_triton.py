"""A residual sum and its RMS norm: a program for each row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launching import options


@triton.jit
def _kernel(
    x_ptr, y_ptr, gain_ptr, total_ptr, out_ptr, K, eps,
    BLOCK: tl.constexpr, ADDS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * K
    k = tl.arange(0, BLOCK)
    inside = k < K
    x = tl.load(x_ptr + row + k, mask=inside, other=0.0)
    gain = tl.load(gain_ptr + k, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        x += tl.load(y_ptr + row + k, mask=inside, other=0.0).to(tl.float32)
        tl.store(total_ptr + row + k, x, mask=inside)
    y = x * tl.rsqrt(tl.sum(x * x, 0) / K + eps) * gain
    tl.store(out_ptr + row + k, y.to(out_ptr.dtype.element_ty), mask=inside)


def add_norm(x: Tensor, y: Tensor | None, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    rows, columns = x.shape
    total = x if y is None else torch.empty_like(x)
    out = torch.empty(rows, columns, dtype=dtype, device=x.device)
    # What runs before it is a product of PyTorch's.
    _kernel[(rows,)](
        x, x if y is None else y, gain, total, out, columns, eps,
        BLOCK=triton.next_power_of_2(columns), ADDS=y is not None, **options(4, first=True),
    )  # fmt: skip
    return total, out
