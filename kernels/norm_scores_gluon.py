"""`norm_linear_gluon`, whose programs leave the highest of their scores beside them."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import norm_scores_triton
from kernels.launching import options, rows_of, tokens_together
from kernels.matrix_gluon import multiplied, out_places, reads, sums_layout
from kernels.norm_linear_gluon import bring_normed, normed_product
from kernels.ranking import Scores
from kernels.tiles import matrix_tile
from kernels.weights import Head, stream

OP = "norm_linear_vocabulary"
"""Whose tiles these are: every program adds a row up in the same order."""


@gluon.jit
def _kernel(
    x_ptr, at_ptr, gain_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, tops_ptr, rows, N, P, eps, x_stride,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr, ONE: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    first_m, first_n = gl.program_id(1) * TOKENS, gl.program_id(0) * BLOCK_N
    brought = bring_normed(weight_ptr, factor_ptr, gain_ptr, first_n, N, K, BLOCK_N, WARPS, TOKENS, BITS, GROUP)
    if OVERLAP:
        gdc_wait()
    if ONE:
        x_ptr += gl.load(at_ptr).to(gl.int64) * x_stride
    y = normed_product(
        x_ptr, brought, factor_ptr, bias_ptr, first_m, first_n, rows, N, eps, x_stride,
        K, BLOCK_N, WARPS, TOKENS, BITS, GROUP, BIAS,
    )  # fmt: skip
    m, n = out_places(first_m, first_n, BLOCK_N, WARPS, TOKENS)
    gl.store(out_ptr + m.to(gl.int64) * N + n, y, mask=(m < rows) & (n < N))
    top = gl.max(gl.where(n < N, y, float("-inf")), 1)
    row = first_m + gl.arange(0, multiplied(TOKENS), layout=gl.SliceLayout(1, gl.SliceLayout(0, sums_layout(WARPS))))
    gl.store(tops_ptr + row * P + gl.program_id(0), top, mask=row < rows)


def norm_scores(x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None, at: Tensor | None) -> Scores:
    of = stream(weight)
    if not reads(of, OP):
        return norm_scores_triton.norm_scores(x, gain, eps, weight, bias, at)
    shape = matrix_tile(OP, of.bits)
    rows, vocabulary = len(x) if at is None else 1, of.shape[0]
    tops = torch.empty(rows, triton.cdiv(vocabulary, shape.rows), dtype=torch.float32, device=x.device)
    logits = torch.empty(rows, vocabulary, dtype=torch.float32, device=x.device)
    given = arguments(rows_of(x), gain, eps, weight, bias, at, logits, tops)
    _kernel[(tops.shape[1], tokens_together(rows)[1])](**given, **options(shape.warps, shape.registers))
    return Scores(logits, tops, shape.rows)


def arguments(
    x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None, at: Tensor | None,
    logits: Tensor, tops: Tensor,
) -> dict[str, Any]:  # fmt: skip
    """What the kernel is given, by name."""
    of = stream(weight)
    shape = matrix_tile(OP, of.bits)
    rows, segments = tops.shape
    return {
        "x_ptr": x, "at_ptr": x if at is None else at, "gain_ptr": gain, "weight_ptr": of.numbers,
        "factor_ptr": of.factors, "bias_ptr": of.numbers if bias is None else bias,
        "out_ptr": logits, "tops_ptr": tops, "rows": rows, "N": of.shape[0], "P": segments,
        "eps": eps, "x_stride": x.stride(0), "K": of.shape[1], "BLOCK_N": shape.rows, "WARPS": shape.warps,
        "TOKENS": tokens_together(rows)[0], "BITS": of.bits, "GROUP": of.group, "BIAS": bias is not None,
        "ONE": at is not None,
    }  # fmt: skip
