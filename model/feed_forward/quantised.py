"""Experts in fewer bits: a matrix of `model.quantised` for each, and only the chosen ones' are read.

Letters: M rows, K features in, N features out, E experts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

import kernels
from kernels.weights import Eight, Four, dense
from model.quantised import Int4Linear, Int8Linear


class QuantisedExperts(nn.Module):
    """What stands in place of an `ExpertLinear`; `experts` are E modules [..., K] -> fp32 [..., N]."""

    def __init__(self, experts: Iterable[nn.Module], outputs: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.outputs = outputs
        self._together: Four | Eight | None = None

    def together(self) -> Four | Eight:
        """All matrices one below the other, [E·N, K]; each expert's own becomes a part of them.

        For those that are kept as a block's products read them, `kernels.weights`. From then on, on a GPU, nothing of
        a pass waits for the host.
        """
        if self._together is None:
            experts = [expert for expert in self.experts if isinstance(expert, Int4Linear | Int8Linear)]
            each: list[Four | Eight] = [expert.packed.data for expert in experts]
            kind = type(each[0])
            whole = kind(*(torch.cat(parts) for parts in zip(*each, strict=True)))
            rows = (part.chunk(len(each)) for part in whole)
            for expert, own in zip(experts, zip(*rows, strict=True), strict=True):
                expert.packed = expert.packed._replace(data=kind(*own))
            self._together = whole
        return self._together

    def one(self, x: Tensor, expert: int) -> Tensor:
        """x [1, K] -> fp32 [1, N], by one expert"""
        y: Tensor = self.experts[expert](x)
        return y

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """x [M, K], sorted by expert; ends int32 [E], the row behind each expert's last -> fp32 [M, N]"""
        if self._together is not None and x.device.type == "cuda":
            return kernels.expert_linear(x.bfloat16(), self._widened(), ends).float()
        bounds = [0, *ends.tolist()]
        runs = [
            self.experts[expert](x[start:end]) for expert, (start, end) in enumerate(pairwise(bounds)) if end > start
        ]
        return torch.cat([*runs, torch.zeros(len(x) - bounds[-1], self.outputs, device=x.device)])

    def _widened(self) -> Tensor:
        """bfloat16 [E, N, K]"""
        whole = self.together()
        wide = kernels.widen(whole) if isinstance(whole, Four) else dense(whole).bfloat16()
        return wide.view(len(self.experts), self.outputs, -1)
