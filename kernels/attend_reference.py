"""Rotary positions, the new rows of the cache, and attention by chunks of keys, in fp32, row by row."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attend(
    qkv: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    groups, capacity, width = keys.shape
    rows = len(qkv)
    heads = qkv.shape[1] // width - 2 * groups
    begin = int(start)
    split = qkv.view(rows, -1, width).transpose(0, 1).float()
    turned = _rotate(split[: heads + groups], rotation[begin : begin + rows].float())
    keys[:, begin : begin + rows] = turned[heads:].to(keys.dtype)
    values[:, begin : begin + rows] = split[heads + groups :].to(values.dtype)

    chunks = -(-capacity // chunk)
    means = torch.zeros(rows, heads, chunks, width, device=qkv.device)
    sums = torch.full((rows, heads, chunks), -torch.inf, device=qkv.device)
    for row in range(rows):
        for first in range(0, begin + row + 1, chunk):
            seen = slice(first, min(first + chunk, begin + row + 1))
            k, v = (kept[:, seen].float().repeat_interleave(heads // groups, 0) for kept in (keys, values))
            q = turned[:heads, row].to(keys.dtype).float()
            scores = torch.einsum("hd,hsd->hs", q, k) * width**-0.5
            means[row, :, first // chunk] = torch.einsum("hs,hsd->hd", scores.softmax(-1), v)
            sums[row, :, first // chunk] = scores.logsumexp(-1) / math.log(2)
    return means, sums


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    cos, sin = rotation.chunk(2, -1)
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
