"""A matrix from a checkpoint's own blocks to eight bits in the order of `kernels.vnni`, in one go.

By operators of PyTorch it is decoded, rounded and put in order one after the other, each of which reads and writes all
of it: five times as long.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import cache

import torch
from torch import Tensor

from kernels import native, vnni
from kernels.blocks_code import FORMATS, Format
from kernels.native import Code, Parallel, Value, Writer
from kernels.vnni import Data

_ADDRESSES = ("stored", "codes", "firsts", "scales", "scratch")
_NUMBERS = ("strip", "strips", "pairs", "columns")
_FIELDS = _ADDRESSES + _NUMBERS


def fits(rows: int, columns: int, parts: Sequence[tuple[str, int]], lanes: int) -> bool:
    """Whether a weight [N, K] can be made of parts, so many rows of a kind: whole strips, pairs and blocks."""
    known = all(kind in FORMATS and columns % FORMATS[kind].values == 0 for kind, _ in parts)
    return known and rows % (2 * lanes) == 0 and not any(count % lanes for _, count in parts)


def pack(rows: int, columns: int, slices: Iterable[tuple[int, str, Tensor]], lanes: int) -> tuple[Data, Tensor]:
    """A weight [N, K], and its scales: not finite where a number of the row is not.

    slices: first row, kind, and the rows uint8 [n, bytes per row], n a multiple of the lanes.
    """
    codes = torch.empty(rows // (2 * lanes), columns // 4, 2, lanes, dtype=torch.int32)
    firsts, scales = torch.empty(rows, dtype=torch.int32), torch.empty(rows)
    scratch = torch.empty(torch.get_num_threads() * columns)
    for first, kind, stored in slices:
        stored = stored.contiguous()
        task = (ctypes.c_int64 * len(_FIELDS))(
            *(tensor.data_ptr() for tensor in (stored, codes, firsts, scales, scratch)),
            first // lanes,
            len(stored) // lanes,
            len(codes),
            columns,
        )
        function(kind, lanes).result()(task)
    return Data(codes, firsts, scales, torch.zeros(rows), rows), scales


def prepare(kinds: Iterable[str], lanes: int) -> None:
    for kind in kinds:
        if kind in FORMATS:
            function(kind, lanes)


@cache
def function(kind: str, lanes: int) -> Future[Parallel]:
    return native.soon(lambda: _code(FORMATS[kind], lanes))


def _code(form: Format, lanes: int) -> Parallel:
    code = Code(lanes)
    w = code.function("pack", vnni.types(code, "p"))
    (task,) = w.arguments
    stored, codes, firsts, scales, scratch = (w.field(task, _FIELDS, name) for name in _ADDRESSES)
    first, strips, pairs, columns = (w.field(task, _FIELDS, name, w.i64) for name in _NUMBERS)
    threads = vnni.threads(w)
    numbers = w.at(scratch, w.to.mul(threads[0], columns), w.f32)
    blocks = w.to.udiv(columns, w.number(form.values))
    between = w.to.mul(blocks, w.number(form.size))  # bytes from a row to the next

    def strip(i: Value, _: list[Value]) -> None:
        place = w.to.add(first, i)
        half = w.to.udiv(place, pairs)
        begin = w.to.mul(w.to.sub(place, w.to.mul(half, pairs)), w.to.lshr(columns, w.number(1)))
        to = w.at(codes, w.to.mul(w.to.add(begin, half), w.number(lanes)), w.i32)

        def row(lane: Value, _: list[Value]) -> None:
            at = w.to.add(w.to.mul(i, w.number(lanes)), lane)
            most = _decoded(w, form, w.at(stored, w.to.mul(at, between), w.i8), blocks, numbers)
            scale = w.to.fdiv(most, w.real(127))
            total = _rounded(w, numbers, scale, columns, w.at(to, lane, w.i32))
            n = w.to.add(w.to.mul(place, w.number(lanes)), lane)
            w.store(scale, scales, n)
            w.store(w.to.mul(total, w.small(-vnni.ZERO)), firsts, n)

        w.fold(0, lanes, 1, [], row)

    w.fold(*vnni.share(w, strips, threads), 1, [], strip)
    w.end()
    return code.parallel("pack")


def _decoded(w: Writer, form: Format, row: Value, blocks: Value, numbers: Value) -> Value:
    """The row's numbers into `numbers`, and the largest magnitude, which is NaN if one is.

    Without their signs, floats are in the order of their bits, and NaN is behind infinity.
    """

    def block(i: Value, most: list[Value]) -> list[Value]:
        begin = w.to.mul(i, w.number(form.values))
        (largest,) = most
        for number, some in enumerate(form.numbers(w, w.at(row, w.to.mul(i, w.number(form.size)), w.i8))):
            w.store(some, w.at(numbers, begin, w.f32), number * w.code.lanes)
            bits = w.to.and_(w.to.bitcast(some, w.ints), w.each(0x7FFFFFFF))
            largest = w.to.select(w.to.icmp_signed(">", bits, largest), bits, largest)
        return [largest]

    (largest,) = w.fold(0, blocks, 1, [w.each(0)], block)
    return w.to.bitcast(w.call(f"llvm.vector.reduce.smax.v{w.code.lanes}i32", largest, returns=w.i32), w.f32)


def _rounded(w: Writer, numbers: Value, scale: Value, columns: Value, to: Value) -> Value:
    """The numbers by `scale` as bytes, four of them every second vector from `to` on; and their sum."""
    # The bound keeps a row of zeros from dividing by zero.
    steps = w.spread(w.math("maximum", scale, w.real(1e-30)))

    def body(i: Value, sums: list[Value]) -> list[Value]:
        # What becomes of NaN is of no matter: the scale tells.
        codes = w.to.fptosi(w.math("roundeven", w.to.fdiv(w.load(numbers, i, w.floats), steps)), w.ints)
        place = w.to.mul(i, w.number(w.code.lanes // 2))
        for j, four in enumerate(w.fours(w.to.trunc(codes, w.bytes))):
            w.store(four, w.at(to, place, w.i32), 2 * j * w.code.lanes)
        return [w.to.add(sums[0], codes)]

    (sums,) = w.fold(0, columns, w.code.lanes, [w.each(0)], body)
    return w.call(f"llvm.vector.reduce.add.v{w.code.lanes}i32", sums, returns=w.i32)
