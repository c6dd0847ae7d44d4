"""Rows of a table, one program for each. It is the first kernel of a pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents

from kernels.launching import options
from kernels.weights import Eight


@triton.jit
def _kernel(
    ids_ptr, table_ptr, scales_ptr, out_ptr, K, BLOCK: tl.constexpr, SCALED: tl.constexpr, OVERLAP: tl.constexpr
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    number = tl.load(ids_ptr + row).to(tl.int64)
    x = tl.load(table_ptr + number * K + k, mask=k < K, other=0).to(tl.float32)
    if SCALED:
        x *= tl.load(scales_ptr + number)
    tl.store(out_ptr + row * K + k, x, mask=k < K)


def embed(ids: Tensor, table: Tensor | Eight) -> Tensor:
    scaled = isinstance(table, Eight)
    numbers, scales = table if scaled else (table, table)
    columns = numbers.shape[1]
    out = torch.empty(len(ids), columns, dtype=torch.float32, device=numbers.device)
    _kernel[(len(ids),)](
        ids, numbers, scales, out, columns,
        BLOCK=triton.next_power_of_2(columns), SCALED=scaled, **options(4, first=True),
    )  # fmt: skip
    return out
