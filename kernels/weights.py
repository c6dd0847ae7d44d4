"""The weights that a block's products read: floating point, or in fewer bits, in the order that kernels stream them.

Letters: N features out, K features in, g groups of columns per row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

WORD = 8
"""Codes of four bits in an int32."""
PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # column // 2 + 4 * (column % 2)
"""Which four bits of a word hold which of its columns: neighbours lie 16 bits apart, as a pair of bfloat16 does."""
GROUP = 32
"""Columns share a factor in groups of this many, or a multiple."""


class Eight(NamedTuple):
    """A weight in eight bits: codes · scales[:, None]."""

    codes: Tensor  # int8 [N, K]
    scales: Tensor  # fp32 [N]


PADDED = 4
"""Scales of a row of `Q8` are a multiple of so many."""


class Q8(NamedTuple):
    """A weight as a GGUF checkpoint has it in Q8_0: eight bits, and a scale for every GROUP columns of a row.

    It stands for bfloat16(codes · scales): bit for bit what the checkpoint is in sixteen bits, in half of the bytes.
    """

    codes: Tensor  # int8 [N, K]
    scales: Tensor  # fp16 [N, K/GROUP], filled up to a multiple of PADDED: they are copied in eight bytes


class Four(NamedTuple):
    """A weight in four bits: (code - 8) · step + offset, where neighbouring columns share step and offset.

    Word l holds columns 8l … 8l + 7 in the order of PLACES. A factor is a word: the step's bfloat16 in its low half,
    the offset's in its high half.
    """

    words: Tensor  # int32 [N, K/8]
    factors: Tensor  # int32 [N, g]


Weight = Tensor | Eight | Four
Head = Weight | Q8
"""Of a product whose result is scores, one for each id."""
Table = Tensor | Eight | Q8
"""What rows are looked up in."""


class Stream(NamedTuple):
    """A weight as the kernels take it."""

    numbers: Tensor
    factors: Tensor
    """What the numbers are multiplied with; of no meaning for floating point."""
    shape: tuple[int, int]
    bits: int
    group: int
    """Columns of a row that share a factor, 0: all of them; of no meaning for floating point."""
    pieces: int
    """Codes in one number."""


def shape_of(weight: Head) -> tuple[int, int]:
    """(N, K)"""
    if isinstance(weight, Four):
        return len(weight.words), weight.words.shape[1] * WORD
    rows, columns = parts_of(weight)[0].shape
    return rows, columns


def parts_of(weight: Head) -> tuple[Tensor, ...]:
    """Its numbers, then what they are multiplied with."""
    return (weight,) if isinstance(weight, Tensor) else tuple(weight)


def picked(table: Table, rows: Tensor) -> Table:
    """The rows `rows`, integers [n], of a table."""
    at = rows.long()
    if isinstance(table, Q8):
        return Q8(table.codes[at], table.scales[at])
    return Eight(table.codes[at], table.scales[at]) if isinstance(table, Eight) else table[at]


def stream(weight: Head) -> Stream:
    """A weight as the kernels take it."""
    shape = shape_of(weight)
    if isinstance(weight, Four):
        return Stream(weight.words, weight.factors, shape, 4, shape[1] // weight.factors.shape[1], WORD)
    if isinstance(weight, Eight):
        return Stream(weight.codes, weight.scales, shape, 8, 0, 1)
    if isinstance(weight, Q8):
        return Stream(weight.codes, weight.scales, shape, 8, GROUP, 1)
    return Stream(weight, weight, shape, 8 * weight.element_size(), 1, 1)


def activations(weight: Head) -> torch.dtype:
    """What the activations between two products are kept in."""
    return weight.dtype if isinstance(weight, Tensor) else torch.bfloat16


def dense(weight: Head) -> Tensor:
    """The numbers that a weight stands for, fp32 [N, K]."""
    if isinstance(weight, Eight):
        return weight.codes.float() * weight.scales.unsqueeze(-1)
    if isinstance(weight, Q8):
        codes: Tensor = weight.codes.unflatten(1, (-1, GROUP))
        scales = weight.scales[:, : codes.shape[1]].float().unsqueeze(-1)
        return (codes.float() * scales).flatten(1).bfloat16().float()
    if isinstance(weight, Four):
        count, columns = shape_of(weight)
        codes = (weight.words.unsqueeze(-1) >> _shifts(weight.words.device)) & 15  # [N, K/8, 8]
        steps = (weight.factors << 16).view(torch.float32).unsqueeze(-1)
        offsets = (weight.factors & -65536).view(torch.float32).unsqueeze(-1)
        grouped = codes.reshape(count, weight.factors.shape[1], -1).float()
        return ((grouped - 8) * steps + offsets).view(count, columns)
    return weight.float()


def four(codes: Tensor, steps: Tensor, offsets: Tensor) -> Four:
    """The weight (codes - 8) · steps + offsets: codes uint8 [N, K], 0 … 15; steps and offsets bfloat16 [N, g]."""
    rows, columns = codes.shape
    group = columns // steps.shape[1]
    if columns % group or group % GROUP:
        raise ValueError(f"rows of {columns} in groups of {group}; expected groups of {GROUP} or a multiple")
    # The codes share no bits, and a sum wraps where an or would: into the sign.
    words = (codes.view(rows, -1, WORD).to(torch.int32) << _shifts(codes.device)).sum(2, dtype=torch.int32)
    low = steps.view(torch.int16).to(torch.int32) & 0xFFFF
    high = offsets.view(torch.int16).to(torch.int32) << 16
    return Four(words.contiguous(), (low | high).contiguous())


def q8(codes: Tensor, scales: Tensor) -> Q8:
    """The weight codes · scales: codes int8 [N, K], scales fp16 [N, K/GROUP]."""
    return Q8(codes.contiguous(), F.pad(scales, (0, -scales.shape[1] % PADDED)).contiguous())


def _shifts(device: torch.device) -> Tensor:
    """How far each column of a word is from its lowest bit, 4 · PLACES: int32 [8]."""
    columns = torch.arange(WORD, device=device, dtype=torch.int32)
    return 4 * (columns // 2 + WORD // 2 * (columns % 2))
