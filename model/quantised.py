"""Weights in fewer bits: how eight are rounded, and the modules that stand where a `Linear` or `Embedding` stood.

Letters: N features out, K features in. `model.rounding` has four bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from kernels import Packed
from kernels.weights import GROUP, Q8, Table, dense, picked, q8
from model.layers import RMSNorm
from model.rounding import Int4

HEAD_SLICE = 8192
"""Rows of a head that are widened at a time."""


class Int8(NamedTuple):
    """Rows [N, K] in eight bits: codes · scales[:, None]."""

    codes: Tensor  # int8 [N, K], -127 … 127
    scales: Tensor  # fp32 [N]


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


class Int8Linear(nn.Module):
    """`kernels.int8_linear`: [..., K] -> fp32 [..., N]."""

    def __init__(self, weight: Int8 | Packed, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = weight if isinstance(weight, Packed) else kernels.pack_int8(*weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return kernels.int8_linear(x, self.packed, self.bias)


def normed_product(norm: RMSNorm, linear: nn.Module, x: Tensor) -> Tensor:
    """linear(norm(x)), [..., K] -> [..., N], with eight bits in one call where there is one."""
    if isinstance(linear, Int8Linear) and linear.bias is None:
        return kernels.norm_int8_linear(x, norm.weight, norm.eps, linear.packed)
    y: Tensor = linear(norm(x))
    return y


class Int4Linear(nn.Module):
    """`kernels.int4_linear`: [..., K] -> fp32 [..., N]."""

    def __init__(self, weight: Int4, bias: Tensor | None) -> None:
        super().__init__()
        self.packed = kernels.pack_int4(*weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return kernels.int4_linear(x, self.packed, self.bias)


class Int8Embedding(nn.Module):
    """Token ids [B, T] -> rows [B, T, K] of a table in eight bits, which may be the head's."""

    def __init__(self, table: Table, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table = table
        self._dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        return dense(picked(self.table, ids.flatten())).to(self._dtype).view(*ids.shape, -1)


class Q8Linear(nn.Module):
    """A head that stays as a checkpoint of Q8_0 has it: bfloat16 [..., K] -> [..., N], for a GPU.

    It computes what a `Linear` in bfloat16 computes of the same checkpoint. The fused kernels read the eight bits;
    by itself it makes sixteen of some rows at a time.
    """

    bias = None

    def __init__(self, weight: Q8) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(len(self.weight.codes), device=x.device).split(HEAD_SLICE)
        return torch.cat([F.linear(x, dense(picked(self.weight, some)).bfloat16()) for some in places], -1)


def to_q8(rows: Tensor) -> Q8:
    """Rows [N, K], K a multiple of GROUP, rounded as llama.cpp rounds to Q8_0: 255 steps for every GROUP columns."""
    grouped = rows.float().unflatten(1, (-1, GROUP))
    scales = grouped.abs().amax(-1) / 127
    codes = (grouped / scales.clamp(min=1e-30).unsqueeze(-1)).round_().to(torch.int8)
    return q8(codes.flatten(1), scales.half())


def few_bits(module: nn.Module) -> bool:
    """Were its weights rounded to eight bits or four?"""
    return isinstance(module, Int8Linear | Int4Linear)


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
