"""Normed states beside normed embeddings: a program for each row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options
from kernels.weights import Eight


@triton.jit
def _kernel(
    state_ptr, ids_ptr, table_ptr, scales_ptr, state_gain_ptr, token_gain_ptr, out_ptr, K, eps,
    BLOCK: tl.constexpr, SCALED: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    inside = k < K
    state_gain = tl.load(state_gain_ptr + k, mask=inside, other=0.0).to(tl.float32)
    token_gain = tl.load(token_gain_ptr + k, mask=inside, other=0.0).to(tl.float32)
    if OVERLAP:
        gdc_wait()
    number = tl.load(ids_ptr + row).to(tl.int64)
    state = tl.load(state_ptr + row * K + k, mask=inside, other=0.0)
    token = tl.load(table_ptr + number * K + k, mask=inside, other=0).to(tl.float32)
    if SCALED:
        token *= tl.load(scales_ptr + number)
    state *= tl.rsqrt(tl.sum(state * state, 0) / K + eps)
    token *= tl.rsqrt(tl.sum(token * token, 0) / K + eps)
    dtype = out_ptr.dtype.element_ty
    tl.store(out_ptr + row * 2 * K + k, (state * state_gain).to(dtype), mask=inside)
    tl.store(out_ptr + row * 2 * K + K + k, (token * token_gain).to(dtype), mask=inside)


def join(state: Tensor, ids: Tensor, table: Tensor | Eight, gains: tuple[Tensor, Tensor], eps: float) -> Tensor:
    scaled = isinstance(table, Eight)
    numbers, scales = table if scaled else (table, table)
    rows, columns = state.shape
    out = torch.empty(rows, 2 * columns, dtype=gains[0].dtype, device=state.device)
    _kernel[(rows,)](
        state, ids, numbers, scales, *gains, out, columns, eps,
        BLOCK=triton.next_power_of_2(columns), SCALED=scaled, **options(4),
    )  # fmt: skip
    return out
