"""Attention over chunks put together, row by row."""

from __future__ import annotations

import torch
from torch import Tensor


def merge(means: Tensor, sums: Tensor, start: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    rows, heads, chunks, width = means.shape
    merged = torch.empty(rows, heads, width, device=means.device)
    for row in range(rows):
        seen = min((int(start) + row) // chunk + 1, chunks)
        weights = torch.softmax(sums[row, :, :seen] * torch.log(torch.tensor(2.0)), -1)
        merged[row] = (weights.unsqueeze(-1) * means[row, :, :seen].float()).sum(1)
    return merged.flatten(1).to(dtype)
