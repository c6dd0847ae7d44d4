"""Rows of a table, one program for each. It is the first kernel of a pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents

from kernels.launching import options


@triton.jit
def _kernel(ids_ptr, table_ptr, out_ptr, K, BLOCK: tl.constexpr, OVERLAP: tl.constexpr):
    if OVERLAP:
        gdc_launch_dependents()
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    at = tl.load(ids_ptr + row).to(tl.int64) * K
    x = tl.load(table_ptr + at + k, mask=k < K, other=0.0)
    tl.store(out_ptr + row * K + k, x.to(tl.float32), mask=k < K)


def embed(ids: Tensor, table: Tensor) -> Tensor:
    columns = table.shape[1]
    out = torch.empty(len(ids), columns, dtype=torch.float32, device=table.device)
    _kernel[(len(ids),)](ids, table, out, columns, BLOCK=triton.next_power_of_2(columns), **options(4, first=True))
    return out
