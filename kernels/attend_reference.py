"""Attention by chunks of keys, in fp32, row by row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.finishing import MOST_CHUNKS


def attend(q: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    groups, capacity, width = keys.shape
    rows, heads = len(q), q.shape[1] // width
    begin = int(start)
    chunks = min(-(-capacity // chunk), MOST_CHUNKS)
    means = torch.zeros(rows, heads, chunks, width, device=q.device)
    sums = torch.full((rows, heads, chunks), -torch.inf, device=q.device)
    for row in range(rows):
        positions = torch.arange(min(begin + row + 1, capacity), device=q.device)
        asked = q[row].view(heads, width).float()
        for place in range(min(chunks, (begin + row) // chunk + 1)):
            seen = positions[positions // chunk % chunks == place]
            k, v = (kept[:, seen].float().repeat_interleave(heads // groups, 0) for kept in (keys, values))
            scores = torch.einsum("hd,hsd->hs", asked, k) * width**-0.5
            means[row, :, place] = torch.einsum("hs,hsd->hd", scores.softmax(-1), v)
            sums[row, :, place] = scores.logsumexp(-1) / math.log(2)
    return means.to(q.dtype), sums
