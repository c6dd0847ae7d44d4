"""RMS norm and the product with a vocabulary on matrix units; the highest score of every tile is left beside them.

A vocabulary's weight is many tiles of rows. Where tiles are small, in eight bits, a program takes one after the other,
and copies those that come next while it multiplies: what it makes of the activations is then made once, and memory
gives weights all the time. In sixteen bits a multiprocessor holds so few tiles that each is a program's own.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import norm_scores_triton
from kernels.grid_gluon import multiprocessors
from kernels.launching import options, rows_of, tokens_together
from kernels.lines_gluon import chunk_of_lines, copy_factors, copy_lines, room_of_factors, rooms_of_lines, scaled
from kernels.matrix_gluon import (
    chunks_of,
    gains,
    loaded_layout,
    multiplied,
    norm_scale,
    out_places,
    reads,
    rows_at,
    sums_layout,
    tokens,
    weights_layout,
    widened,
)
from kernels.ranking import Scores
from kernels.tiles import matrix_tile
from kernels.weights import Head, stream

OP = "norm_scores"
"""Whose tiles these are: every program adds a row up in the same order."""
ROOMS = {16: 1, 8: 2}
"""Tiles that a program has room for, by bits."""
BESIDE = 3
"""Programs of several tiles that a multiprocessor takes. Of a short vocabulary, `FEW` tiles for each, one less is
quicker: 13 µs instead of 17 for 32,768 rows of 896, and 55 instead of 53 for 151,936 (docs/gpu.md)."""
FEW = 16
"""Tiles for each multiprocessor, up to which a vocabulary is short."""
AT_MOST = 16
"""Rows of activations that these have at a time: their fragments stay in registers."""


@gluon.jit
def _scores(
    kept, tile, further, fragments, scale, eps, first_m,
    weight_ptr, factor_ptr, bias_ptr, out_ptr, tops_ptr, rows, N, P,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr, ROOMS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr,
):  # fmt: skip
    """A tile, which was begun to be copied ROOMS tiles ago; the one that is `further` on follows to its room.

    scale: the norm's, or of a program's only tile the squares: they are added up where the tile was.
    """
    numbers_kept, factors_kept = kept
    m, n = out_places(first_m, tile * BLOCK_N, BLOCK_N, WARPS, TOKENS)
    factor = 1.0
    if BITS == 8 and not GROUP:
        factor = gl.load(factor_ptr + n, mask=n < N, other=0.0)
    async_copy.wait_group(ROOMS - 1)
    sums = gl.zeros([WARPS, multiplied(TOKENS), BLOCK_N], gl.float32, layout=sums_layout(WARPS))
    for i in gl.static_range(chunks_of(K, WARPS, BITS)):
        numbers = chunk_of_lines(numbers_kept, i, BLOCK_N, WARPS)
        if GROUP:
            numbers = scaled(numbers, factors_kept, i, WARPS)
        weight = gl.convert_layout(numbers.to(gl.bfloat16), weights_layout(WARPS), assert_trivial=True)
        sums = mma_v2(fragments[i], weight, sums)
    if ROOMS > 1:
        follows = (tile + further) * BLOCK_N
        copy_lines(numbers_kept, weight_ptr, follows, N, K, BLOCK_N, WARPS, BITS)
        copy_factors(factors_kept, factor_ptr, follows, N, K, GROUP, BLOCK_N, WARPS)
        async_copy.commit_group()
    # The norm's scale comes last, so that what is multiplied is the activation times the gain, in bfloat16.
    y = gl.sum(sums, 0) * (norm_scale(scale, K, eps, WARPS, TOKENS) if ROOMS == 1 else scale)
    if BITS == 8 and not GROUP:
        y *= factor
    if BIAS:
        y += gl.load(bias_ptr + n, mask=n < N, other=0.0).to(gl.float32)
    gl.store(out_ptr + m.to(gl.int64) * N + n, y, mask=(m < rows) & (n < N))
    top = gl.max(gl.where(n < N, y, float("-inf")), 1)
    row = first_m + gl.arange(0, multiplied(TOKENS), layout=gl.SliceLayout(1, gl.SliceLayout(0, sums_layout(WARPS))))
    gl.store(tops_ptr + row * P + tile, top, mask=(row < rows) & (tile < P))


@gluon.jit
def _kernel(
    x_ptr, at_ptr, gain_ptr, weight_ptr, factor_ptr, bias_ptr, out_ptr, tops_ptr, rows, N, P, eps, x_stride,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr, ROOMS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr, ONE: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    first_m, begin, apart = gl.program_id(1) * TOKENS, gl.program_id(0), gl.num_programs(0)
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    kept = ()
    for r in gl.static_range(ROOMS):
        kept += ((rooms_of_lines(weight_ptr, K, BLOCK_N, WARPS, BITS), room_of_factors(factor_ptr, K, GROUP, BLOCK_N)),)
        copy_lines(kept[r][0], weight_ptr, (begin + r * apart) * BLOCK_N, N, K, BLOCK_N, WARPS, BITS)
        copy_factors(kept[r][1], factor_ptr, (begin + r * apart) * BLOCK_N, N, K, GROUP, BLOCK_N, WARPS)
        async_copy.commit_group()
    gain = gains(gain_ptr, K, WARPS, TOKENS, BITS)
    if OVERLAP:
        gdc_wait()
    if ONE:
        x_ptr += gl.load(at_ptr).to(gl.int64) * x_stride
    xs = rows_at(x_ptr, tokens(first_m, TOKENS, WARPS), rows, x_stride, K, WARPS, TOKENS, BITS)
    squares = gl.zeros([WARPS, TOKENS, 32], gl.float32, layout=loaded_layout(WARPS, TOKENS))
    fragments = ()
    for i in gl.static_range(chunks_of(K, WARPS, BITS)):
        x = xs[i].to(gl.float32)
        squares = gl.fma(x, x, squares)
        fragments += (widened((x * gain[i].to(gl.float32)).to(gl.bfloat16), WARPS, TOKENS),)
    if ROOMS == 1:
        _scores(
            kept[0], begin, 0, fragments, squares, eps, first_m,
            weight_ptr, factor_ptr, bias_ptr, out_ptr, tops_ptr, rows, N, P,
            K, BLOCK_N, WARPS, TOKENS, ROOMS, BITS, GROUP, BIAS,
        )  # fmt: skip
    else:
        scale = norm_scale(squares, K, eps, WARPS, TOKENS)
        for tile in range(begin, P, ROOMS * apart):
            for r in gl.static_range(ROOMS):
                _scores(
                    kept[r], tile + r * apart, ROOMS * apart, fragments, scale, eps, first_m,
                    weight_ptr, factor_ptr, bias_ptr, out_ptr, tops_ptr, rows, N, P,
                    K, BLOCK_N, WARPS, TOKENS, ROOMS, BITS, GROUP, BIAS,
                )  # fmt: skip


def norm_scores(x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None, at: Tensor | None) -> Scores:
    of = stream(weight)
    if of.bits not in ROOMS or not reads(of, OP, ROOMS[of.bits]):
        return norm_scores_triton.norm_scores(x, gain, eps, weight, bias, at)
    shape = matrix_tile(OP, of.bits)
    rows, vocabulary = len(x) if at is None else 1, of.shape[0]
    tops = torch.empty(rows, triton.cdiv(vocabulary, shape.rows), dtype=torch.float32, device=x.device)
    logits = torch.empty(rows, vocabulary, dtype=torch.float32, device=x.device)
    given = arguments(rows_of(x), gain, eps, weight, bias, at, logits, tops)
    grid = (programs(given, multiprocessors()), triton.cdiv(rows, given["TOKENS"]))
    _kernel[grid](**given, **options(shape.warps, registers(given)))
    return Scores(logits, tops, shape.rows)


def programs(given: dict[str, Any], processors: int) -> int:
    """One for each tile, or as many as multiprocessors take of programs of several tiles."""
    tiles: int = given["P"]
    if given["ROOMS"] == 1:
        return tiles
    return min(tiles, processors * (BESIDE if tiles > FEW * processors else BESIDE - 1))


def registers(given: dict[str, Any]) -> int | None:
    """Of a thread at most, so that as many programs of several tiles fit a multiprocessor as are started there."""
    return 65_536 // (32 * given["WARPS"] * BESIDE) // 8 * 8 if given["ROOMS"] > 1 else None


def arguments(
    x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None, at: Tensor | None,
    logits: Tensor, tops: Tensor,
) -> dict[str, Any]:  # fmt: skip
    """What the kernel is given, by name."""
    of = stream(weight)
    shape = matrix_tile(OP, of.bits)
    rows, segments = tops.shape
    together, rooms = tokens_together(rows)[0], ROOMS[of.bits]
    return {
        "x_ptr": x, "at_ptr": x if at is None else at, "gain_ptr": gain, "weight_ptr": of.numbers,
        "factor_ptr": of.factors, "bias_ptr": of.numbers if bias is None else bias,
        "out_ptr": logits, "tops_ptr": tops, "rows": rows, "N": of.shape[0], "P": segments,
        "eps": eps, "x_stride": x.stride(0), "K": of.shape[1], "BLOCK_N": shape.rows, "WARPS": shape.warps,
        "TOKENS": together if rooms == 1 else min(together, AT_MOST), "ROOMS": rooms,
        "BITS": of.bits, "GROUP": of.group if of.bits == 8 else 0, "BIAS": bias is not None, "ONE": at is not None,
    }  # fmt: skip
