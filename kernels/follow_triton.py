"""What a block is followed by: one program, a lane for each token."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options


@triton.jit
def agreed(best_ptr, block_ptr, i, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """How many tokens behind the first the decoder would have written as well. i: lanes, more than ROWS."""
    count = tl.load(block_ptr + 1)
    real = i + 1 < count
    mine = tl.load(best_ptr + i * WIDE, mask=real, other=0)
    token = tl.load(block_ptr + 3 + i, mask=real, other=0)
    return tl.min(tl.where(real & (mine == token), ROWS + 2, i), 0)


@triton.jit
def _kernel(
    best_ptr, block_ptr, drafted_ptr, table_ptr, out_ptr,
    ROWS: tl.constexpr, WIDE: tl.constexpr, LANES: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    i = tl.arange(0, LANES)
    last = agreed(best_ptr, block_ptr, i, ROWS, WIDE)
    mine = tl.load(best_ptr + (i - 1) * WIDE, mask=(i >= 1) & (i <= ROWS), other=0)
    found = tl.where((i >= 1) & (i <= ROWS), mine, tl.load(block_ptr + 2))
    draft = tl.load(table_ptr + tl.load(drafted_ptr + last + 1))
    tl.store(out_ptr + i, tl.where(i == last + 2, draft, found), mask=i < ROWS + 2)


def follow(best: Tensor, block: Tensor, drafted: Tensor, table: Tensor) -> Tensor:
    rows, wide = best.shape
    out = torch.empty(rows + 2, dtype=torch.int32, device=best.device)
    _kernel[(1,)](
        best, block, drafted, table, out,
        ROWS=rows, WIDE=wide, LANES=triton.next_power_of_2(rows + 2), **options(1),
    )  # fmt: skip
    return out
