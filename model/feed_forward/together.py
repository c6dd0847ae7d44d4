"""All experts of a small mixture as two products, for few rows: those that were not chosen count nothing.

    inner = silu(x Gᵀ) · (x Uᵀ)     G and U: the gates and the ups of all experts, one below the other
    y     = (inner · w) Dᵀ          D: what the experts end in, side by side; w: what each counts, 0 for most

Where experts are small, a product costs more by being started than by what it reads: two products of everything take
less time than two for each expert that was chosen, and as long for three rows as for one.
Letters: M rows, K width, E experts, I features inside an expert, J = E·I, shared experts among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.feed_forward.routing import Choice
from model.quantised import Int4Linear
from model.rounding import GROUP, Int4

LARGEST = 1 << 22
"""Numbers in all matrices of a layer: of more, reading what was not chosen takes longer than starting products."""
AT_ONCE = 1 << 14
"""Numbers of which the exponential is taken at once. PyTorch splits twice as many among its threads, and the last bit
of an exponential depends on where a split falls."""


class Together(nn.Module):
    """The experts and the shared ones, of which every row has all; see `pack`."""

    def __init__(self, first: nn.Module, last: nn.Module, experts: int, inner: int, all_inner: int) -> None:
        """first: K -> 2·J, gates in front of ups. last: J -> K. inner: I; all_inner: J."""
        super().__init__()
        self.first, self.last = first, last
        self.experts, self.inner = experts, inner
        self.shared = all_inner // inner - experts
        self.rows = max(AT_ONCE // all_inner, 1)

    def forward(self, rows: Tensor, choice: Choice) -> Tensor:
        """[M, K] -> fp32 [M, K]"""
        if len(rows) <= self.rows:
            return self._some(rows, choice)
        some = zip(rows.split(self.rows), choice.ids.split(self.rows), choice.gates.split(self.rows), strict=True)
        return torch.cat([self._some(x, Choice(ids, gates)) for x, ids, gates in some])

    def _some(self, rows: Tensor, choice: Choice) -> Tensor:
        gate, up = self.first(rows).chunk(2, -1)
        # Slots that are not used have the id E, and what they count, 0, is overwritten by the shared experts' 1.
        weights = rows.new_zeros(len(rows), self.experts + max(self.shared, 1))
        weights.scatter_(1, choice.ids, choice.gates)
        weights[:, self.experts :] = 1.0
        inner = (F.silu(gate) * up).view(len(rows), -1, self.inner)
        y: Tensor = self.last((inner * weights[:, : inner.shape[1]].unsqueeze(-1)).flatten(1))
        return y


def fits(shapes: Sequence[tuple[int, ...]], experts: int) -> bool:
    """Are matrices of these shapes, as `pack` takes them, few numbers, in sizes that four bits have a layout for?"""
    _, (rows, inner), *shared = shapes
    numbers = sum(rows * columns for rows, columns in shapes)
    all_inner = inner * experts + sum(columns for _, columns in shared[1:])
    return numbers <= LARGEST and inner % GROUP == 0 and rows // experts % 16 == 0 and all_inner <= AT_ONCE


def pack(matrices: Sequence[Int4], experts: int) -> Together:
    """Rows [E·2·I, K], gates and ups of expert after expert; rows [E·K, I]; then, if there are n shared ones, theirs as
    one wider expert: [2·n·I, K], [K, n·I]."""
    gate_up, down, *shared = matrices
    inner = down.codes.shape[1]
    by_expert = Int4(*(part.unflatten(0, (experts, 2, inner)) for part in gate_up))
    halves = [Int4(*(part[:, half].flatten(0, 1) for part in by_expert)) for half in (0, 1)]
    last = Int4(*(part.unflatten(0, (experts, -1)).transpose(0, 1).flatten(1) for part in down))
    if shared:
        more = [Int4(*parts) for parts in zip(*(part.chunk(2) for part in shared[0]), strict=True)]
        halves = [_joined(both, 0) for both in zip(halves, more, strict=True)]
        last = _joined((last, shared[1]), 1)
    return Together(Int4Linear(_joined(halves, 0), None), Int4Linear(last, None), experts, inner, last.codes.shape[1])


def _joined(parts: Sequence[Int4], dimension: int) -> Int4:
    return Int4(*(torch.cat(same, dimension) for same in zip(*parts, strict=True)))
