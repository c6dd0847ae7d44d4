"""Queries turned and absorbed, and the rows of the cache, in fp32."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.latent import Heads


def absorb(
    queries: Tensor,
    made: Tensor,
    gain: Tensor | None,
    eps: float,
    up: Tensor,
    rotation: Tensor,
    kept: Tensor,
    start: Tensor,
    of: Heads,
) -> Tensor:
    rows = len(queries)
    positions = int(start) + torch.arange(rows, device=queries.device)
    latent, key = made.float().split([of.latent, of.rotary], -1)
    if gain is not None:
        latent = latent * torch.rsqrt(latent.square().mean(-1, keepdim=True) + eps) * gain.float()
    plain, turned = queries.float().view(rows, of.heads, -1).split([of.plain, of.rotary], -1)
    keys = up.float().view(of.heads, of.plain + of.value, of.latent)[:, : of.plain]
    absorbed = torch.einsum("rhp,hpc->rhc", plain, keys)

    line = [_turn(key, rotation[positions]), latent]
    asked = [_turn(turned, rotation[positions].unsqueeze(1)), absorbed]
    if of.factor:
        coarse = positions // of.factor
        line.append(_turn(key, rotation[coarse]))
        asked.append(_turn(turned, rotation[coarse + of.shift].unsqueeze(1)))
    kept[positions] = torch.cat(line, -1).to(kept.dtype)
    return torch.cat(asked, -1).to(kept.dtype)


def _turn(x: Tensor, rotation: Tensor) -> Tensor:
    cos, sin = rotation.float().chunk(2, -1)
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
