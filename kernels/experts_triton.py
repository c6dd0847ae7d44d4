"""What the products with experts have in common: how matrices of 32, 16, 8 or 4 bits are fetched and multiplied.

A program holds a tile of lanes of some rows: a lane is a number, or, of four bits, a word of eight codes
(`kernels.weights.Four`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.weights import Stream

TILE = 8192
"""Lanes of a tile: all of them are under way at once."""


@triton.jit
def fetch(weight_ptr, rows, there, lane, LINE: tl.constexpr):
    """Lanes [LANES] of rows [BLOCK_N], int64; LINE: lanes of a whole row. there: [BLOCK_N, LANES]"""
    return tl.load(weight_ptr + rows[:, None] * LINE + lane[None, :], mask=there, other=0)


@triton.jit
def fetch_factors(factor_ptr, rows, there, lane, LINE: tl.constexpr, WORDS: tl.constexpr, BITS: tl.constexpr):
    """Of four bits the factor of every word, WORDS of which share one; of eight bits that of every row."""
    if BITS == 4:
        return tl.load(factor_ptr + rows[:, None] * (LINE // WORDS) + (lane // WORDS)[None, :], mask=there, other=0)
    elif BITS == 8:
        return tl.load(factor_ptr + rows[:, None] + (lane * 0)[None, :], mask=there, other=0.0)
    else:
        return 0


@triton.jit
def times(numbers, factors, x_ptr, gain_ptr, lane, limit, GAIN: tl.constexpr, BITS: tl.constexpr):
    """Weights times x · gain, lane by lane, [BLOCK_N, LANES], and the squares of x alone, [LANES].

    Lanes from `limit` on are nothing. What x_ptr points to begins with lane 0.
    """
    there = lane < limit
    if BITS == 4:
        squares = tl.zeros(lane.shape, tl.float32)
        total = tl.zeros(lane.shape, tl.float32)
        dot = tl.zeros(numbers.shape, tl.float32)
        for j in tl.static_range(8):
            x = tl.load(x_ptr + lane * 8 + j, mask=there, other=0.0).to(tl.float32)
            squares += x * x
            if GAIN:
                x *= tl.load(gain_ptr + lane * 8 + j, mask=there, other=0.0).to(tl.float32)
            total += x
            code = (numbers >> (4 * (j // 2 + 4 * (j % 2)))) & 15
            dot += (code - 8).to(tl.float32) * x[None, :]
        step = (factors << 16).to(tl.float32, bitcast=True)
        offset = (factors & -65536).to(tl.float32, bitcast=True)
        return dot * step + offset * total[None, :], squares
    else:
        x = tl.load(x_ptr + lane, mask=there, other=0.0).to(tl.float32)
        squares = x * x
        if GAIN:
            x *= tl.load(gain_ptr + lane, mask=there, other=0.0).to(tl.float32)
        dot = numbers.to(tl.float32) * x[None, :]
        if BITS == 8:
            dot *= factors
        return dot, squares


def lanes_of(of: Stream) -> int:
    """Of a row."""
    return of.shape[1] // of.pieces


def words_of(of: Stream) -> int:
    """That share a factor."""
    return max(of.group // of.pieces, 1)


def at_once(lanes: int, rows: int) -> int:
    """How many of so many lanes a program of `rows` rows takes at a time."""
    return max(min(triton.next_power_of_2(lanes), TILE // triton.next_power_of_2(rows)), 16)
