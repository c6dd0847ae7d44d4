"""Rows of a table, one program for each. It is the first kernel of a pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents

from kernels.launching import options
from kernels.streams_triton import row_of_table
from kernels.weights import Table, stream


@triton.jit
def _kernel(
    ids_ptr, table_ptr, factor_ptr, out_ptr, K: tl.constexpr,
    BLOCK: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    x = row_of_table(table_ptr, factor_ptr, tl.load(ids_ptr + row), k, K, BITS, GROUP)
    tl.store(out_ptr + row * K + k, x, mask=k < K)


def embed(ids: Tensor, table: Table) -> Tensor:
    of = stream(table)
    columns = of.shape[1]
    out = torch.empty(len(ids), columns, dtype=torch.float32, device=ids.device)
    _kernel[(len(ids),)](
        ids, of.numbers, of.factors, out, K=columns,
        BLOCK=triton.next_power_of_2(columns), BITS=of.bits, GROUP=of.group, **options(4, first=True),
    )  # fmt: skip
    return out
