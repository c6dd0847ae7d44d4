"""Attention over latent rows by chunks, near and far, row by row; in doubles, so that errors are the kernels' own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.latent import Heads


def attend_latent(
    queries: Tensor, kept: Tensor, factors: Tensor, start: Tensor, of: Heads, chunk: int
) -> tuple[Tensor, Tensor]:
    rows, begin, near = len(queries), int(start), of.rotary + of.latent
    chunks = -(-len(kept) // chunk)
    means = torch.zeros(rows, of.heads, chunks, of.latent, device=queries.device)
    sums = torch.full((rows, of.heads, chunks), -torch.inf, device=queries.device)
    for row in range(rows):
        here = begin + row
        for first in range(0, here + 1, chunk):
            seen = torch.arange(first, min(first + chunk, here + 1), device=queries.device)
            keys, query = kept[seen].double(), queries[row].double()
            scores = query[:, :near] @ keys[:, :near].T * factors[0].unsqueeze(-1)
            if of.factor:
                far = query[:, of.rotary :] @ keys[:, of.rotary :].T * factors[1].unsqueeze(-1)
                scores = torch.where(here - seen < of.window, scores, far)
            means[row, :, first // chunk] = (scores.softmax(-1) @ keys[:, of.rotary : near]).float()
            sums[row, :, first // chunk] = scores.logsumexp(-1) / math.log(2)
    return means, sums
