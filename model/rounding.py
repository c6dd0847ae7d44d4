"""Numbers rounded to four bits, group by group, and which layers are worth eight.

A group has a grid: sixteen numbers at equal distances. Several grids are tried, one of which may be the very grid that
a checkpoint of four bits was rounded to, and the best is fitted by least squares, as llama.cpp does it
(`make_qkx2_quants` in ggml-quants.c, which steps through ranges and solves for scale and minimum).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.errors import BadWeights

GROUP = 32  # columns of Int4 that share a step and an offset


class Int4(NamedTuple):
    """Rows [N, K] in four bits: (codes - 8) · steps + offsets, group by group; g groups a row."""

    codes: Tensor  # uint8 [N, K], 0 … 15
    steps: Tensor  # bfloat16 [N, g]
    offsets: Tensor  # bfloat16 [N, g]


def to_int4(rows: Tensor, rounds: int = 2) -> Int4:
    """Rows [N, K], K a multiple of GROUP: each group on the grid that is nearest to it, of those that are tried.

    Tried are the grids of `_grids`, then `rounds` times: the least-squares grid for the codes of the best one. The
    squared error is never larger than on the grid that spans the group. BadWeights: NaN or infinity.
    """
    x = rows.float().unflatten(-1, (-1, GROUP))
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)  # both are NaN as soon as one number is
    if not bool(torch.isfinite(high - low).all()):
        raise BadWeights("what is to be rounded holds NaN or infinity")
    first, *others = _grids(low, high)
    best = _Rounded.on(x, *first)
    for steps, offsets in others:
        best = best.or_nearer(_Rounded.on(x, steps, offsets))
    middle = x.mean(-1, keepdim=True)
    for _ in range(rounds):
        centre = best.codes.mean(-1, keepdim=True)
        spread = best.codes - centre
        steps = (spread * (x - middle)).sum(-1, keepdim=True) / spread.square().sum(-1, keepdim=True)
        steps = torch.where(steps > 0, steps, best.steps)  # not where all codes are one: 0/0
        best = best.or_nearer(_Rounded.on(x, steps, middle - steps * centre))
    codes = (best.codes + 8).to(torch.uint8).flatten(-2)
    return Int4(codes, best.steps.bfloat16().squeeze(-1), best.offsets.bfloat16().squeeze(-1))


def _grids(low: Tensor, high: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Steps and offsets to begin with, for groups from `low` to `high`, [N, g, 1] each.

    The first spans the group. So does the second, with a number to spare: four bits of Q4_K that leave one out.
    The others have the steps of a checkpoint whose largest magnitude is its last negative code: four bits of Q4_0, as
    they are; five bits of Q5_0, two neighbours of which then share the number between them.
    """
    span = high - low
    for count in (15, 14):
        yield span / count, low + span * (8 / count)
    below = -low > high
    eighth = torch.where(below, -low, high) / 8
    yield eighth, torch.where(below, 0.0, eighth)
    yield eighth, torch.where(below, eighth / 4, eighth * 3 / 4)


class _Rounded(NamedTuple):
    """Groups [N, g, 32] on a grid each, whose two numbers are bfloat16 already."""

    codes: Tensor  # -8 … 7, as floats
    steps: Tensor  # [N, g, 1], like what follows
    offsets: Tensor
    errors: Tensor  # squared, of a group

    @staticmethod
    def on(x: Tensor, steps: Tensor, offsets: Tensor) -> _Rounded:
        """Every number of x on the nearest of its grid."""
        steps, offsets = steps.clamp(min=1e-12).bfloat16().float(), offsets.bfloat16().float()
        codes = ((x - offsets) / steps).round_().clamp_(-8, 7)
        errors = torch.addcmul(offsets, codes, steps).sub_(x).square_().sum(-1, keepdim=True)
        return _Rounded(codes, steps, offsets, errors)

    def or_nearer(self, other: _Rounded) -> _Rounded:
        """Of each group the nearer one; this one where both are as near."""
        nearer = other.errors < self.errors
        return _Rounded(*(torch.where(nearer, theirs, ours) for theirs, ours in zip(other, self, strict=True)))


def finer(names: Sequence[str]) -> set[str]:
    """The linear layers that keep eight bits where others have four; names: all of them, layer by layer.

    By what rounding them costs in divergence of the next token, for each byte (docs/gpu.md has the figures):

    - joined queries, keys and values, which are small, too. Every later token looks at the first one, so that an
      error in its value is in all rows;
    - what attention ends in, in the first and the last eighth of the layers;
    - gate and up of the last layer, behind which nothing evens errors out.
    """
    outs = [name for name in names if name.endswith("attention.out")]
    eighth = len(outs) // 8
    found = {*outs[:eighth], *outs[len(outs) - eighth :]}
    if outs:
        found.add(outs[-1].removesuffix("attention.out") + "feed_forward.gate_up")
    return found & {*names} | {name for name in names if name.endswith("attention.qkv")}
