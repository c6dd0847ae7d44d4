"""RMS norm, queries, keys and values on matrix units, turned by their positions and written where attention reads them.

A program has tiles of eight rows of the weight: four features of a head and those half a head further on, which are
turned together.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import norm_heads_reference
from kernels.launching import SIDE_BY_SIDE, options, tokens_of
from kernels.matrix_gluon import chunks_of, gains
from kernels.rooms_gluon import (
    MANY,
    TILE,
    bring,
    fetch_heads,
    meeting_rooms,
    norm_scale,
    normed,
    products,
    rooms,
    row_scales,
    squares_room,
    store_heads,
    tile_factors,
)
from kernels.weights import Weight, stream

WARPS = {16: 4, 8: 4, 4: 8}
"""By bits."""
TILES = 2
"""That a program has."""
MOST_ROOMS = 24


@gluon.jit(do_not_specialize=["rows"])
def _kernel(
    x_ptr, gain_ptr, weight_ptr, factor_ptr, bias_ptr, rotation_ptr, q_ptr, keys_ptr, values_ptr, start_ptr,
    rows, capacity, eps,
    K: gl.constexpr, HEADS: gl.constexpr, GROUPS: gl.constexpr, WIDTH: gl.constexpr, TILES: gl.constexpr,
    WARPS: gl.constexpr, BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr, TOKENS: gl.constexpr,
    WIDE: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    N: gl.constexpr = (HEADS + 2 * GROUPS) * WIDTH
    ROOMS: gl.constexpr = chunks_of(K, WARPS, BITS)  # of a tile
    first = gl.program_id(0) * TILES
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    found = rooms(weight_ptr, TILES * ROOMS, WARPS, BITS)
    squared = squares_room(TOKENS, WARPS)
    for t in gl.static_range(TILES):
        bring(found, t * ROOMS, 0, MANY, weight_ptr, first + t, 0, N, K, WIDTH, WARPS, BITS)
    async_copy.commit_group()
    start = gl.load(start_ptr)
    gain = gains(gain_ptr, K, WARPS, TOKENS, BITS)
    factors = ()
    fetched = ()
    scales = ()
    for t in gl.static_range(TILES):
        factors += tile_factors(factor_ptr, first + t, 0, N, K, GROUP, WIDTH, WARPS, BITS)
        fetched += (fetch_heads(bias_ptr, rotation_ptr, first + t, start, capacity, N, WIDTH, BIAS, TOKENS, WARPS),)
        scales += (row_scales(factor_ptr, first + t, N, WIDTH, WARPS, BITS),)
    if OVERLAP:
        gdc_wait()
    if WIDE:
        async_copy.wait_group(0)
        meeting = meeting_rooms(TILES, TOKENS, WARPS)
        for at in range(0, rows, TOKENS):
            here = start + at
            fragments = normed(x_ptr + at * K, gain, squared, rows - at, K, TOKENS, WARPS, BITS)
            ys = products(fragments, found, factors, meeting, TILES, K, TOKENS, WARPS, BITS)
            scale = norm_scale(squared, eps, K, WARPS)
            for t in gl.static_range(TILES):
                own = fetch_heads(bias_ptr, rotation_ptr, first + t, here, capacity, N, WIDTH, BIAS, TOKENS, WARPS)
                store_heads(
                    ys[t] * scale * scales[t], own, q_ptr + at * HEADS * WIDTH, keys_ptr, values_ptr, first + t, here,
                    capacity, rows - at, HEADS, GROUPS, WIDTH, TOKENS, WARPS,
                )  # fmt: skip
    else:
        fragments = normed(x_ptr, gain, squared, rows, K, TOKENS, WARPS, BITS)
        async_copy.wait_group(0)
        # Rooms of bytes are too small for sums.
        meeting = meeting_rooms(TILES, TOKENS, WARPS) if BITS == 8 else ()
        ys = products(fragments, found, factors, meeting, TILES, K, TOKENS, WARPS, BITS)
        scale = norm_scale(squared, eps, K, WARPS)
        for t in gl.static_range(TILES):
            store_heads(
                ys[t] * scale * scales[t], fetched[t], q_ptr, keys_ptr, values_ptr, first + t, start, capacity, rows,
                HEADS, GROUPS, WIDTH, TOKENS, WARPS,
            )  # fmt: skip


def norm_heads(
    x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None,
    rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor,
) -> Tensor:  # fmt: skip
    if problem(weight, keys):
        return norm_heads_reference.norm_heads(x, gain, eps, weight, bias, rotation, keys, values, start)
    of, x = stream(weight), x.contiguous()
    width = keys.shape[2]
    q = torch.empty(len(x), of.shape[0] - 2 * len(keys) * width, dtype=keys.dtype, device=x.device)
    given = arguments(x, gain, eps, weight, bias, rotation, q, keys, values, start)
    _kernel[(triton.cdiv(of.shape[0], TILE.value * TILES),)](**given, **options(WARPS[of.bits]))
    return q


def problem(weight: Weight, keys: Tensor) -> bool:
    """Is the weight or the cache of a kind that is not computed here?"""
    of = stream(weight)
    if of.bits not in WARPS or of.shape[1] % 32 or keys.dtype != torch.bfloat16:
        return True
    return TILES * -(-of.shape[1] // (32 * WARPS[of.bits] * (4 if of.bits == 4 else 1))) > MOST_ROOMS


def arguments(
    x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None,
    rotation: Tensor, q: Tensor, keys: Tensor, values: Tensor, start: Tensor,
) -> dict[str, Any]:  # fmt: skip
    """What the kernel is given, by name."""
    of = stream(weight)
    groups, capacity, width = keys.shape
    return {
        "x_ptr": x, "gain_ptr": gain, "weight_ptr": of.numbers, "factor_ptr": of.factors,
        "bias_ptr": gain if bias is None else bias, "rotation_ptr": rotation, "q_ptr": q, "keys_ptr": keys,
        "values_ptr": values, "start_ptr": start, "rows": len(x), "capacity": capacity, "eps": eps,
        "K": of.shape[1], "HEADS": q.shape[1] // width, "GROUPS": groups, "WIDTH": width, "TILES": TILES,
        "WARPS": WARPS[of.bits], "BITS": of.bits, "GROUP": of.group, "BIAS": bias is not None,
        "TOKENS": tokens_of(len(x)), "WIDE": len(x) > SIDE_BY_SIDE,
    }  # fmt: skip
