"""Queries and keys turned by their positions, keys and values written into the cache."""

from __future__ import annotations

import torch
from torch import Tensor


def turn(qkv: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor) -> Tensor:
    groups, capacity, width = keys.shape
    begin = int(start)
    rows = min(len(qkv), capacity - begin)
    split = qkv.view(len(qkv), -1, width).transpose(0, 1).float()
    heads = len(split) - 2 * groups
    positions = (begin + torch.arange(len(qkv), device=qkv.device)).clamp(max=capacity - 1)
    turned = _rotate(split[: heads + groups], rotation[positions].float())
    keys[:, begin : begin + rows] = turned[heads:, :rows].to(keys.dtype)
    values[:, begin : begin + rows] = split[heads + groups :, :rows].to(values.dtype)
    return turned[:heads].transpose(0, 1).reshape(len(qkv), -1).to(keys.dtype)


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    cos, sin = rotation.chunk(2, -1)
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
