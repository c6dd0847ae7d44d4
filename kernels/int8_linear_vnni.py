"""Eight-bit weights by VNNI, inputs in twice eight bits: exact sums, at the speed that memory gives weights."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import native, stored_vnni, vnni
from kernels.layer_parts import add_norm
from kernels.native import Code, Parallel, Value
from kernels.rms_norm_reference import rms_norm
from kernels.vnni import Data

_ADDRESSES = ("x", "y", "codes", "steps", "weight", "firsts", "scales", "base", "gain", "eps", "normed")
_FIELDS = (*_ADDRESSES, "rows", "columns", "features")
"""Of a task. gain: of the norm in front, 0 if there is none; normed: room for its rows."""
Norm = tuple[Tensor, float]
"""A gain [K], and what is added to the mean of squares."""


def pack(codes: Tensor, scales: Tensor) -> Data:
    _function(native.lanes())
    return vnni.pack(codes, scales, native.lanes())


def packs_stored(shape: tuple[int, int], parts: Sequence[tuple[str, int]]) -> bool:
    return stored_vnni.fits(*shape, parts, native.lanes())


def prepare_stored(kinds: Iterable[str]) -> None:
    stored_vnni.prepare(kinds, native.lanes())


def pack_stored(shape: tuple[int, int], slices: Iterable[tuple[int, str, Tensor]]) -> tuple[Data, Tensor]:
    _function(native.lanes())
    return stored_vnni.pack(*shape, slices, native.lanes())


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    return linear(x, data, bias, native.lanes())


def norm_int8_linear(x: Tensor, gain: Tensor, eps: float, data: Data) -> Tensor:
    return linear(x, data, None, native.lanes(), (gain, eps))


def linear(x: Tensor, data: Data, bias: Tensor | None, lanes: int, norm: Norm | None = None) -> Tensor:
    """The same for weights that were packed for so many lanes, with a norm in front or without."""
    if norm is not None and data.columns != x.shape[-1]:  # of what it is filled up to, the mean would be another
        x, norm = rms_norm(x, *norm), None
    rows = x.reshape(-1, x.shape[-1]).float().contiguous()
    count, features, columns = len(rows), len(data.scales), data.columns
    if columns != rows.shape[1]:
        rows = F.pad(rows, (0, columns - rows.shape[1]))
    base = data.zeros if bias is None else bias.float().contiguous()
    if len(base) != features:
        base = F.pad(base, (0, features - len(base)))
    y = torch.empty(count, features)
    codes = torch.empty(vnni.room(count, columns), dtype=torch.uint8)
    gain, eps = (None, None) if norm is None else (norm[0].float().contiguous(), torch.tensor([norm[1]]))
    normed = None if norm is None else torch.empty_like(rows)
    task = (ctypes.c_int64 * len(_FIELDS))(
        rows.data_ptr(),
        y.data_ptr(),
        codes.data_ptr(),
        codes.data_ptr() + 2 * count * columns,
        data.codes.data_ptr(),
        data.firsts.data_ptr(),
        data.scales.data_ptr(),
        base.data_ptr(),
        *(0 if part is None else part.data_ptr() for part in (gain, eps, normed)),
        count,
        columns,
        features,
    )
    _function(lanes).result()(task)
    found = y if features == data.rows else y[:, : data.rows]
    return found.reshape(*x.shape[:-1], data.rows)


@cache
def _function(lanes: int) -> Future[Parallel]:
    return native.soon(lambda: _code(lanes))


def _code(lanes: int) -> Parallel:
    code = Code(lanes)
    vnni.add_rounding(code)
    vnni.add_products(code)
    add_norm(code)
    w = code.function("int8_linear", vnni.types(code, "p"))
    (task,) = w.arguments
    x, y, codes, steps, weight, firsts, scales, base, gain, eps, normed = (
        w.field(task, _FIELDS, name) for name in _ADDRESSES
    )
    rows, columns, features = (w.field(task, _FIELDS, name, w.i64) for name in _FIELDS[len(_ADDRESSES) :])
    rounded = vnni.Rounded(codes, steps, rows, columns)
    matrix = vnni.Weight(weight, firsts, scales, base, w.number(0), features, columns)
    threads = vnni.threads(w)
    norms = w.to.icmp_unsigned("!=", w.to.ptrtoint(gain, w.i64), w.number(0))

    def begin(row: Value) -> Value:
        offset = w.to.mul(row, columns)
        own, to = w.at(x, offset, w.f32), w.at(normed, offset, w.f32)
        w.when(norms, lambda: w.call("norm", own, gain, eps, columns, to))
        return w.to.select(norms, to, own)

    vnni.round_rows(w, rounded, begin, threads)
    vnni.meet(w)
    vnni.multiply(w, rounded, matrix, y, vnni.share(w, w.to.udiv(features, w.number(2 * lanes)), threads))
    w.end()
    return code.parallel("int8_linear")
