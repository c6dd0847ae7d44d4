"""The next block: one program, a lane for each number."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.follow_triton import agreed
from kernels.launching import options


@triton.jit
def _kernel(
    best_ptr, block_ptr, first_ptr, second_ptr, table_ptr, out_ptr, width,
    ROWS: tl.constexpr, WIDE: tl.constexpr, LANES: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    i = tl.arange(0, LANES)
    last = agreed(best_ptr, block_ptr, i, ROWS, WIDE)
    found = tl.where(i == 0, tl.load(block_ptr) + last + 1, tl.where(i == 1, 3, 0))
    found = tl.where(i == 2, tl.load(best_ptr + last * WIDE), found)
    found = tl.where(i == 3, tl.load(table_ptr + tl.load(first_ptr + last + 1)), found)
    found = tl.where(i == 4, tl.load(table_ptr + tl.load(second_ptr + last + 2)), found)
    tl.store(out_ptr + i, found, mask=i < width + 2)


def settle(best: Tensor, block: Tensor, first: Tensor, second: Tensor, table: Tensor, width: int) -> Tensor:
    rows, wide = best.shape
    out = torch.empty(2 + width, dtype=torch.int32, device=best.device)
    _kernel[(1,)](
        best, block, first, second, table, out, width,
        ROWS=rows, WIDE=wide, LANES=max(triton.next_power_of_2(max(rows, width) + 2), 8), **options(1),
    )  # fmt: skip
    return out
