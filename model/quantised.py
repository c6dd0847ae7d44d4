"""Weights in fewer bits: how they are rounded, and the modules that stand where a `Linear` or `Embedding` stood.

Letters: N features out, K features in, g groups of columns per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
from kernels import Packed
from kernels.weights import Eight


class Int8(NamedTuple):
    """Rows [N, K] in eight bits: codes · scales[:, None]."""

    codes: Tensor  # int8 [N, K], -127 … 127
    scales: Tensor  # fp32 [N]


class Int4(NamedTuple):
    """Rows [N, K] in four bits: (codes - 8) · steps + offsets, group by group."""

    codes: Tensor  # uint8 [N, K], 0 … 15
    steps: Tensor  # bfloat16 [N, g]
    offsets: Tensor  # bfloat16 [N, g]


GROUP = 32  # columns of Int4 that share a step and an offset


def to_int8(rows: Tensor) -> Int8:
    """Each row [K] rounded to 255 steps between minus and plus its largest magnitude."""
    rows = rows.float()
    scales = rows.abs().amax(-1) / 127  # much quicker than torch.aminmax
    codes = rows / scales.clamp(min=1e-30).unsqueeze(-1)
    return Int8(codes.round_().to(torch.int8), scales)


def to_int8_by_slices(slices: Iterable[Tensor], rows: int, columns: int) -> Int8:
    """The same for rows [n, K] that come slice by slice, `rows` in all."""
    whole = Int8(torch.empty(rows, columns, dtype=torch.int8), torch.empty(rows))
    place = 0
    for some in slices:
        for kept, new in zip(whole, to_int8(some), strict=True):
            kept[place : place + len(some)] = new
        place += len(some)
    return whole


def pack_rows(slices: Iterable[Tensor], shape: tuple[int, int], device: torch.device) -> Packed:
    """Rows [N, K] that come in slices [n, K], rounded by `to_int8`, for `int8_linear` on `device`."""
    parts = (some.float() for some in slices)
    if device.type == "cpu" and kernels.packs_stored(shape, [("F32", shape[0])]):
        return kernels.pack_stored(shape, _stored(parts))[0]
    codes, scales = to_int8_by_slices(parts, *shape)
    return kernels.pack_int8(codes.to(device), scales.to(device))


def _stored(slices: Iterable[Tensor]) -> Iterator[tuple[int, str, Tensor]]:
    place = 0
    for some in slices:
        yield place, "F32", some.contiguous().view(torch.uint8)
        place += len(some)


def to_int4(rows: Tensor, rounds: int = 3) -> Int4:
    """Each group of columns rounded to 16 steps, which are then fitted to it.

    The steps first span the group. Then, `rounds` times: codes for the steps, and the least-squares steps for the
    codes. Neither half of a round makes the squared error larger.
    """
    x = rows.float().unflatten(-1, (-1, GROUP))
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    steps = ((high - low) / 15).clamp(min=1e-12)
    offsets = low + 8 * steps
    middle = x.mean(-1, keepdim=True)
    for _ in range(rounds):
        codes = _codes(x, steps, offsets)
        centre = codes.mean(-1, keepdim=True)
        spread = codes - centre
        fitted = (spread * (x - middle)).sum(-1, keepdim=True) / spread.square().sum(-1, keepdim=True)
        steps = torch.where(fitted > 1e-12, fitted, steps)  # not where a group is constant: 0/0
        offsets = middle - steps * centre
    steps, offsets = steps.bfloat16(), offsets.bfloat16()
    codes = _codes(x, steps.float(), offsets.float()) + 8
    return Int4(codes.to(torch.uint8).flatten(-2), steps.squeeze(-1), offsets.squeeze(-1))


def _codes(x: Tensor, steps: Tensor, offsets: Tensor) -> Tensor:
    """-8 … 7, as floats."""
    return ((x - offsets) / steps).round_().clamp_(-8, 7)


class Int8Linear(nn.Module):
    """`kernels.int8_linear`: [..., K] -> fp32 [..., N]."""

    def __init__(self, weight: Int8 | Packed, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = weight if isinstance(weight, Packed) else kernels.pack_int8(*weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return kernels.int8_linear(x, self.packed, self.bias)


class Int4Linear(nn.Module):
    """`kernels.int4_linear`: [..., K] -> fp32 [..., N]."""

    def __init__(self, weight: Int4, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = kernels.pack_int4(*weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return kernels.int4_linear(x, self.packed, self.bias)


class Int8Embedding(nn.Module):
    """Token ids [B, T] -> fp32 rows [B, T, K] of a table in eight bits, which may be the head's."""

    def __init__(self, table: Eight) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: Tensor) -> Tensor:
        return self.table.codes[ids].float() * self.table.scales[ids].unsqueeze(-1)


class StoredEmbedding(nn.Module):
    """Token ids [B, T] -> fp32 rows [B, T, K], looked up in the bytes of the checkpoint.

    stored: uint8 [V, bytes per row]. decode: bytes of some rows -> their numbers.
    """

    def __init__(self, stored: Tensor, decode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._stored = stored
        self._decode = decode

    def forward(self, ids: Tensor) -> Tensor:
        return self._decode(self._stored[ids]).float()
