"""Attention whose near and far keys are scored by different queries.

A query at i sees the keys j > i - W near and all before them far. For a run of queries both are runs of keys, which
overlap by the length of the run alone: each is scored by itself, and one softmax goes over both.
Letters: H query heads, G groups of keys, T queries, S keys, D and E widths of keys and of values, W window.
"""

from __future__ import annotations

import torch
from torch import Tensor

RUN = 256
"""Queries computed at a time: what they need besides their result is H · RUN · (S + RUN) scores."""


def attend(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], values: Tensor, window: int) -> Tensor:
    """Queries at the last T of S positions -> [B, H, T, E].

    near and far: queries [B, H, T, D], already scaled, and keys [B, G, S, D]. values: [B, G, S, E].
    """
    time, seen = near[0].shape[2], values.shape[2]
    runs = [
        _run((near[0][:, :, at : at + RUN], near[1]), (far[0][:, :, at : at + RUN], far[1]), values, window, first)
        for at, first in zip(range(0, time, RUN), range(seen - time, seen, RUN), strict=True)
    ]
    return runs[0] if len(runs) == 1 else torch.cat(runs, 2)


def _run(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], values: Tensor, window: int, first: int) -> Tensor:
    """The same for queries at `first` and after it."""
    batch, heads, time, _ = near[0].shape
    groups, end = values.shape[1], first + time
    repeats = heads // groups
    from_, to = max(0, first - window + 1), max(0, end - window)  # near keys begin at one, far ones end at the other
    at = torch.arange(first, end, device=values.device).unsqueeze(-1)
    keys = torch.arange(end, device=values.device)
    back = at - keys  # [T, end]
    hidden = torch.cat([(back < window)[:, :to], (back < 0)[:, from_:] | (back >= window)[:, from_:]], 1)

    def scores(queries: Tensor, keys: Tensor) -> Tensor:
        stacked = queries.reshape(batch, groups, repeats * time, -1)
        found: Tensor = (stacked @ keys.transpose(-1, -2)).unflatten(2, (repeats, time))
        return found

    both = torch.cat([scores(far[0], far[1][:, :, :to]), scores(near[0], near[1][:, :, from_:end])], -1)
    weights = both.float().masked_fill(hidden, -torch.inf).softmax(-1).to(values.dtype).flatten(2, 3)
    seen: Tensor = weights[..., :to] @ values[:, :, :to] + weights[..., to:] @ values[:, :, from_:end]
    return seen.view(batch, heads, time, -1)
