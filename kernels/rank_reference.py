"""The best ids of every row by a stable sort, rows kept, and a single token advanced."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.keep_reference import keep
from kernels.ranking import Scores


def rank(
    found: Scores, count: int, hidden: Tensor, start: Tensor, streams: Tensor, said: Tensor | None, block: Tensor | None
) -> Tensor:
    best = found.logits.sort(dim=-1, descending=True, stable=True).indices[:, :count].to(torch.int32)
    keep(hidden, start, streams)
    told = best.flatten()
    if block is not None:
        block[0] += 1
        block[2] = best[0, 0]
        told = torch.cat([told, block])
    if said is not None:
        said.copy_(told)
    return best
