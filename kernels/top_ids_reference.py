"""The best ids of every row by a stable sort."""

from __future__ import annotations

import torch
from torch import Tensor


def top_ids(logits: Tensor, count: int) -> Tensor:
    return logits.sort(dim=-1, descending=True, stable=True).indices[:, :count].to(torch.int32)
