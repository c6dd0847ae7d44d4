"""Rows into a table, from a place on: a program for each row."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options


@triton.jit
def _kernel(rows_ptr, start_ptr, table_ptr, K, last, BLOCK: tl.constexpr, OVERLAP: tl.constexpr):
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0)
    to = tl.minimum(tl.maximum(tl.load(start_ptr) + row, 0), last).to(tl.int64)
    k = tl.arange(0, BLOCK)
    tl.store(table_ptr + to * K + k, tl.load(rows_ptr + row * K + k, mask=k < K, other=0.0), mask=k < K)


def keep(rows: Tensor, start: Tensor, table: Tensor) -> Tensor:
    count, columns = rows.shape
    _kernel[(count,)](rows, start, table, columns, len(table) - 1, BLOCK=triton.next_power_of_2(columns), **options(4))
    return table
