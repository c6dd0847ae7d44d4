"""Experts chosen row by row, in fp32, in plain steps."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.experts import Routing


def route(
    x: Tensor, gain: Tensor, eps: float, weight: Tensor, bias: Tensor | None, how: Routing
) -> tuple[Tensor, Tensor]:
    normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain.float()
    logits = normed @ weight.float().T
    scores = logits.sigmoid() if how.sigmoid else logits.softmax(-1)
    wanted = scores if bias is None else scores + bias
    ids = torch.full((len(x), how.slots), how.experts, dtype=torch.int32, device=x.device)
    gates = torch.zeros(len(x), how.slots, device=x.device)
    for row in range(len(x)):
        used = _used(scores[row], wanted[row], how)
        found = scores[row, used]
        gates[row, : len(used)] = (found / (found.sum() + 1e-20) if how.normalised else found) * how.scale
        ids[row, : len(used)] = used.int()
    return ids, gates


def _used(scores: Tensor, wanted: Tensor, how: Routing) -> Tensor:
    """The experts of one row, best first: scores [E], and scores to choose by [E]."""
    grouped = wanted.view(how.groups, -1)
    worth = grouped.sort(-1, descending=True).values[:, : 2 if how.best_two else 1].sum(-1)
    kept = worth.sort(descending=True, stable=True).indices[: how.chosen_groups]
    if how.chosen_groups < how.groups:
        inside = torch.zeros_like(worth, dtype=torch.bool)
        inside[kept] = True
        wanted = grouped.masked_fill(~inside.unsqueeze(-1), -torch.inf).flatten()
    chosen = wanted.sort(descending=True, stable=True).indices[: how.chosen]
    chosen = chosen[scores[chosen].sort(descending=True, stable=True).indices]
    if not how.threshold:
        return chosen
    reached = torch.stack([scores[chosen[: count + 1]].sum() for count in range(len(chosen))]) / scores.sum()
    if reached[-1] >= how.threshold:
        return chosen[: int((reached < how.threshold).sum()) + 1]
    return scores.sort(descending=True, stable=True).indices if how.dense else chosen
