"""The weights that a block's products read: floating point, or in fewer bits, in the order that kernels stream them.

Letters: N features out, K features in, g groups of columns per row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WORD = 8
"""Codes of four bits in an int32."""
LANES = (32, 16)
"""Words of a chunk: the most of which 8·LANES columns divide K."""


class Eight(NamedTuple):
    """A weight in eight bits: codes · scales[:, None]."""

    codes: Tensor  # int8 [N, K]
    scales: Tensor  # fp32 [N]


class Four(NamedTuple):
    """A weight in four bits: (code - 8) · step + offset, where neighbouring columns share step and offset.

    Code p of word l of a chunk is column p·lanes + l of it. A factor is a word: the step's bfloat16 in its low half,
    the offset's in its high half.
    """

    words: Tensor  # int32 [N, K/8]
    factors: Tensor  # int32 [N, g]
    lanes: int


Weight = Tensor | Eight | Four


class Stream(NamedTuple):
    """A weight as the kernels take it."""

    numbers: Tensor
    factors: Tensor
    """What the numbers are multiplied with; of no meaning for floating point."""
    shape: tuple[int, int]
    bits: int
    group: int
    """Columns that share a factor; of no meaning but for four bits."""
    pieces: int
    """Codes in one number."""
    lanes: int
    """Numbers that a program must take at a time; 0: as it likes."""


def shape_of(weight: Weight) -> tuple[int, int]:
    """(N, K)"""
    if isinstance(weight, Four):
        return len(weight.words), weight.words.shape[1] * WORD
    rows, columns = (weight.codes if isinstance(weight, Eight) else weight).shape
    return rows, columns


def stream(weight: Weight) -> Stream:
    """A weight as the kernels take it."""
    shape = shape_of(weight)
    if isinstance(weight, Four):
        return Stream(weight.words, weight.factors, shape, 4, shape[1] // weight.factors.shape[1], WORD, weight.lanes)
    if isinstance(weight, Eight):
        return Stream(weight.codes, weight.scales, shape, 8, 1, 1, 0)
    return Stream(weight, weight, shape, 8 * weight.element_size(), 1, 1, 0)


def activations(weight: Weight) -> torch.dtype:
    """What the activations between two products are kept in."""
    return weight.dtype if isinstance(weight, Tensor) else torch.bfloat16


def dense(weight: Weight) -> Tensor:
    """The numbers that a weight stands for, fp32 [N, K]."""
    if isinstance(weight, Eight):
        return weight.codes.float() * weight.scales.unsqueeze(-1)
    if isinstance(weight, Four):
        count, columns = shape_of(weight)
        shifts = torch.arange(0, 32, 4, device=weight.words.device).unsqueeze(-1)
        codes = (weight.words.view(count, -1, 1, weight.lanes) >> shifts) & 15  # [N, chunks, 8, lanes]
        steps = (weight.factors << 16).view(torch.float32).unsqueeze(-1)
        offsets = (weight.factors & -65536).view(torch.float32).unsqueeze(-1)
        grouped = codes.reshape(count, weight.factors.shape[1], -1).float()
        return ((grouped - 8) * steps + offsets).view(count, columns)
    return weight.float()


def fits(columns: int, group: int) -> int:
    """The words of a chunk for rows of so many columns that share factors in groups; 0 if there are no whole chunks."""
    able = (n for n in LANES if columns % (WORD * n) == 0 and group % n == 0 and WORD * n % group == 0)
    return next(able, 0)


def four(codes: Tensor, steps: Tensor, offsets: Tensor) -> Four:
    """The weight (codes - 8) · steps + offsets: codes uint8 [N, K], 0 … 15; steps and offsets bfloat16 [N, g]."""
    rows, columns = codes.shape
    group = columns // steps.shape[1]
    lanes = fits(columns, group)
    if not lanes:
        raise ValueError(f"rows of {columns} in groups of {group}; expected rows of 128n, in groups of 32, 64 or 128")
    chunks = codes.view(rows, -1, WORD, lanes).to(torch.int32)
    shifts = torch.arange(0, 32, 4, device=codes.device, dtype=torch.int32).unsqueeze(-1)
    # The codes share no bits, and a sum wraps where an or would: into the sign.
    words = (chunks << shifts).sum(2, dtype=torch.int32).view(rows, -1)
    low = steps.view(torch.int16).to(torch.int32) & 0xFFFF
    high = offsets.view(torch.int16).to(torch.int32) << 16
    return Four(words.contiguous(), (low | high).contiguous(), lanes)
