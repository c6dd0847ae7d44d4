"""Products of rows in sixteen bits with weights in eight, by the instruction VPDPBUSD: its pieces, as functions.

A row is rounded to eight bits by its own largest magnitude, and what those leave to eight more: two bytes a number,
whose products are summed exactly. They are unsigned, which the instruction wants: the 128 that is added to each comes
out of the sum's first value again. A weight is read once, in the order it lies in, for all rows of a tile.

Letters: R rows, T rows of a tile, N features out, K features in, L lanes. A pair: L features out and L more, N/2 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.native import BARRIER, THREAD, THREADS, Code, Value, Writer

ZERO = 128
"""In unsigned bytes."""
FINER = 254
"""Steps of the second eight bits in one of the first: ±half a step is ±127."""
TILE = {16: 6, 8: 3}
"""T by L: two sums for each row and half of a pair fill the registers."""
UNROLLED = 4
"""Columns, in fours, whose products are written out one after the other."""
COLUMNS = 4 * UNROLLED
"""K is a multiple of it."""
SLICE = 512
"""Features whose codes are summed at a time."""


class Data(NamedTuple):
    """A weight. N is filled up to whole pairs with rows of zeros, K to a multiple of COLUMNS."""

    codes: Tensor  # int32 [N/2L, K/4, 2, L], four codes each: feature n of pair n mod N/2, in one or the other half
    firsts: Tensor  # int32 [N], where the sums of a row begin: -128 times the sum of the codes
    scales: Tensor  # fp32 [N]
    zeros: Tensor  # fp32 [N]
    rows: int  # N before it was filled up

    @property
    def columns(self) -> int:
        return 4 * self.codes.shape[1]


def pack(codes: Tensor, scales: Tensor, lanes: int) -> Data:
    """codes int8 [N, K], scales fp32 [N]"""
    rows, columns = codes.shape
    more = -rows % (2 * lanes)
    if more or columns % COLUMNS:
        codes, scales = F.pad(codes, (0, -columns % COLUMNS, 0, more)), F.pad(scales, (0, more))
    fours = codes.contiguous().view(torch.int32)
    ordered = fours.view(2, -1, lanes, fours.shape[1]).permute(1, 3, 0, 2).contiguous()
    # As floats they are summed by several threads, and exactly: sums of so few bytes are far below 2²⁴.
    firsts = torch.cat([some.float().sum(1) for some in codes.split(SLICE)]).int().mul_(-ZERO)
    return Data(ordered, firsts, scales.contiguous(), torch.zeros(len(codes)), rows)


def room(rows: int, columns: int) -> int:
    """Bytes that the rounded rows take, with their steps."""
    return 2 * rows * columns + 4 * rows


class Rounded(NamedTuple):
    """Rows in bytes, as values of the function that makes and reads them."""

    codes: Value
    steps: Value  # fp32 [R]
    rows: Value  # R
    columns: Value  # K


class Weight(NamedTuple):
    """A weight, and what its product is added to, as values of the function that reads them."""

    codes: Value
    firsts: Value
    scales: Value
    base: Value  # fp32: [N] for all rows, or [R, N]
    stride: Value  # 0, or N
    features: Value  # N
    columns: Value  # K


def add_rounding(code: Code) -> None:
    """`round_row(row, K, codes, between, step)`: fp32 [K] -> its bytes, four of the first and four of the second eight
    bits in turn, `between` bytes from one eight to the next; and its step."""
    w = code.function("round_row", types(code, "piipp"))
    row, columns, between, codes, step_place = w.arguments
    (most,) = w.fold(
        0,
        columns,
        code.lanes,
        [w.each(0.0)],
        lambda i, most: [w.math("maximum", most[0], w.math("fabs", w.load(row, i, w.floats)))],
    )
    # The bound keeps a row of zeros from dividing by zero.
    step = w.math("maximum", w.to.fmul(w.largest(most), w.real(1 / 127)), w.real(1e-30))
    w.store(step, step_place, 0)
    steps = w.spread(step)

    def body(i: Value, _: list[Value]) -> None:
        scaled = w.to.fdiv(w.load(row, i, w.floats), steps)
        first = w.math("roundeven", scaled)
        second = w.math("roundeven", w.to.fmul(w.to.fsub(scaled, first), w.each(float(FINER))))
        place = w.to.mul(w.to.lshr(i, w.number(2)), between)
        for offset, floats in ((0, first), (1, second)):
            fours = w.fours(w.to.trunc(w.to.add(w.rounded(floats), w.each(ZERO)), w.bytes))
            for j, four in enumerate(fours):
                w.store(four, w.at(codes, w.to.add(place, w.to.mul(between, w.number(j))), w.i8), offset)

    w.fold(0, columns, code.lanes, [], body)
    w.end()


def add_products(code: Code) -> None:
    """`product_T(codes, steps, K, weight, firsts, scales, base, base_stride, y, N)`: one tile, one pair."""
    for rows in range(1, TILE[code.lanes] + 1):
        _add_product(code, rows)


def _add_product(code: Code, rows: int) -> None:
    lanes = code.lanes
    w = code.function(f"product_{rows}", types(code, "ppippppipi"))
    codes, steps, columns, weight, firsts, scales, base, base_stride, y, features = w.arguments
    half = w.to.lshr(features, w.number(1))
    dot = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"

    def body(i: Value, sums: list[Value]) -> list[Value]:
        sums = list(sums)
        weights = w.at(weight, w.to.mul(i, w.number(2 * lanes)), w.i8)
        fours = w.at(codes, w.to.mul(i, w.number(2 * rows)), w.i8)
        for k in range(UNROLLED):
            both = [w.load(weights, lanes * (2 * k + part), w.ints) for part in (0, 1)]
            for h in range(2 * rows):
                four = w.spread(w.load(fours, 2 * rows * k + h, w.i32))
                for part in (0, 1):
                    sums[2 * h + part] = w.call(dot, sums[2 * h + part], four, both[part], returns=w.ints)
        return sums

    begins = [w.load(firsts, 0, w.ints), w.load(firsts, half, w.ints)]
    sums = w.fold(0, columns, COLUMNS, begins * (2 * rows), body)
    for row in range(rows):
        step = w.spread(w.load(steps, row, w.f32))
        for part in (0, 1):
            column = w.number(0) if part == 0 else half
            first, second = (w.to.sitofp(sums[4 * row + 2 * eight + part], w.floats) for eight in (0, 1))
            exact = w.math("fma", second, w.each(1 / FINER), first)
            scaled = w.to.fmul(exact, w.to.fmul(w.load(scales, column, w.floats), step))
            under = w.load(base, w.to.add(w.to.mul(base_stride, w.number(row)), column), w.floats)
            w.store(w.to.fadd(scaled, under), y, w.to.add(w.to.mul(features, w.number(row)), column))
    w.end()


def round_rows(w: Writer, rounded: Rounded, begin: Callable[[Value], Value], threads: tuple[Value, Value]) -> None:
    """Every `threads[1]`th row from `threads[0]` on, in bytes; `begin` says where the numbers of a row are."""
    who, count = threads

    def body(row: Value, _: list[Value]) -> None:
        place, between = _in_tile(w, rounded, row)
        w.call("round_row", begin(row), rounded.columns, between, place, w.at(rounded.steps, row, w.f32))

    w.fold(who, rounded.rows, count, [], body)


def _in_tile(w: Writer, rounded: Rounded, row: Value) -> tuple[Value, Value]:
    """Where the bytes of a row begin, and how far one eight of them is from the next."""
    tile = w.number(TILE[w.code.lanes])
    first = w.to.mul(w.to.udiv(row, tile), tile)
    begin = _tile_at(w, rounded, first)
    return w.at(begin, w.to.sub(row, first), w.i64), w.to.shl(_height(w, rounded, first), w.number(3))


def _tile_at(w: Writer, rounded: Rounded, first: Value) -> Value:
    return w.at(rounded.codes, w.to.mul(first, w.to.shl(rounded.columns, w.number(1))), w.i8)


def _height(w: Writer, rounded: Rounded, first: Value) -> Value:
    """Rows of the tile that begins with row `first`."""
    tile = w.number(TILE[w.code.lanes])
    left = w.to.sub(rounded.rows, first)
    return w.to.select(w.to.icmp_signed("<", left, tile), left, tile)


def multiply(w: Writer, rounded: Rounded, weight: Weight, y: Value, pairs: tuple[Value, Value]) -> None:
    """y fp32 [R, N], in the columns of the pairs from `pairs[0]` to `pairs[1]`."""
    lanes, tile = w.code.lanes, TILE[w.code.lanes]

    def pair(p: Value, _: list[Value]) -> None:
        column = w.to.mul(p, w.number(lanes))
        codes = w.at(weight.codes, w.to.mul(w.to.shl(column, w.number(1)), weight.columns), w.i8)
        firsts, scales, base = (w.at(part, column, w.i32) for part in (weight.firsts, weight.scales, weight.base))

        def rows(first: Value, _: list[Value]) -> None:
            steps = w.at(rounded.steps, first, w.f32)
            under = w.at(base, w.to.mul(first, weight.stride), w.f32)
            to = w.at(y, w.to.add(w.to.mul(first, weight.features), column), w.f32)
            x = (_tile_at(w, rounded, first), steps, rounded.columns)
            rest = (codes, firsts, scales, under, weight.stride, to, weight.features)
            height = _height(w, rounded, first)
            w.choose(height, range(1, tile + 1), lambda rows: w.call(f"product_{rows}", *x, *rest))

        w.fold(0, rounded.rows, tile, [], rows)

    w.fold(*pairs, 1, [], pair)


def share(w: Writer, count: Value, threads: tuple[Value, Value]) -> tuple[Value, Value]:
    """The part of 0 … count - 1 that falls to a thread of so many."""
    who, all_ = threads
    return w.to.sdiv(w.to.mul(count, who), all_), w.to.sdiv(w.to.mul(count, w.to.add(who, w.number(1))), all_)


def threads(w: Writer) -> tuple[Value, Value]:
    """Which thread this is, and of how many."""
    who, count = (w.to.zext(w.call(name, returns=w.i32), w.i64) for name in (THREAD, THREADS))
    return who, count


def meet(w: Writer) -> None:
    """Wait for the other threads."""
    w.call(BARRIER)


def types(code: Code, letters: str) -> list[object]:
    """p: an address; i: a number of 64 bits."""
    from llvmlite import ir

    return [ir.PointerType() if letter == "p" else ir.IntType(64) for letter in letters]
