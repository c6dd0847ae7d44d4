"""Latent attention of many tokens, expanded, in passes of a fixed shape: where they start is a tensor.

Letters: T tokens of the pass, S positions that they may see, H heads, C latent, D rotary features, P key features of a
head without position, V of its values, K width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.latent import Heads
from model.attention.grouped import GroupedLatentAttention
from model.attention.mla import LatentAttention
from model.gpu.halves import heads_of

RUN = 256
"""Queries whose scores are there at once, where near and far keys are scored apart."""


def latent_attention(
    attention: LatentAttention, x: Tensor, rotation: Tensor, positions: Tensor, kept: Tensor, seen: int | None
) -> Tensor:
    """Normed rows [T, K] at `positions` [T] -> what attention adds to them, [T, K].

    What is cached of them goes into kept [S', W]. seen: S; None where the first position is 0, and what is seen are
    these rows.
    """
    of, time = heads_of(attention), len(x)
    first, latent, key = attention.down(x).split_with_sizes(attention.pieces, -1)
    queries = attention.query(first).view(time, of.heads, -1).transpose(0, 1)  # [H, T, P + D]
    plain, turned = queries.split([of.plain, of.rotary], -1)
    ways = _ways(of, rotation, positions)
    keys = [_turn(key, each) for each, _ in ways]
    row = torch.cat([keys[0], attention.latent_norm(latent).float(), *keys[1:]], -1).to(kept.dtype)
    kept.index_copy_(0, positions, row)
    rows = row if seen is None else kept[:seen]
    before, latents, after = rows.tensor_split([of.rotary, of.rotary + of.latent], -1)
    made, values = (part[0] for part in attention.up.expand(latents.unsqueeze(0)))  # [H, S, P], [H, S, V]
    shared = [part.expand(of.heads, -1, -1) for part in (before, made.to(rows.dtype), after)]
    asked = [_turn(turned, each) for _, each in ways]
    near, far = torch.cat([asked[0], plain.float()], -1), torch.cat([plain.float(), asked[-1]], -1)
    if isinstance(attention, GroupedLatentAttention):
        near, far = (part[0] for part in attention.temperatures(near.unsqueeze(0), far.unsqueeze(0)))
    near_keys = torch.cat(shared[:2], -1)
    if of.factor and len(rows) > of.window:
        seen_of = (far.to(rows.dtype), torch.cat(shared[1:], -1))
        y = _near_and_far((near.to(rows.dtype), near_keys), seen_of, values.to(rows.dtype), positions, attention)
    else:
        mask = None if seen is None else torch.arange(seen, device=x.device) <= positions.unsqueeze(-1)
        y = _attend(near.to(rows.dtype), near_keys, values.to(rows.dtype), mask, attention.scale)
    z: Tensor = attention.out(y.to(x.dtype).transpose(0, 1).reshape(time, -1))
    return z


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """queries [H, T, P + D], keys [H, S, P + D], values [H, S, V] -> [H, T, V]; causal without a mask [T, S]."""
    width = values.shape[-1]
    if keys.shape[-1] > width:  # PyTorch's quick attention is for values as wide as keys
        values = F.pad(values, (0, keys.shape[-1] - width))
    q, k, v = (part.unsqueeze(0) for part in (queries, keys, values))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    return y[0, ..., :width]


def _near_and_far(
    near: tuple[Tensor, Tensor],
    far: tuple[Tensor, Tensor],
    values: Tensor,
    positions: Tensor,
    attention: LatentAttention,
) -> Tensor:
    """The same where keys at the window's edge and beyond are scored as far ones."""
    at = torch.arange(values.shape[1], device=values.device)
    runs = []
    for first in range(0, len(positions), RUN):
        some = slice(first, first + RUN)
        back = positions[some].unsqueeze(-1) - at  # [T, S]
        scores, away = (
            (queries[:, some] @ keys.transpose(-1, -2)).float() * attention.scale for queries, keys in (near, far)
        )
        scores = torch.where(back < heads_of(attention).window, scores, away)
        weights = scores.masked_fill(back < 0, -torch.inf).softmax(-1).to(values.dtype)
        runs.append(weights @ values)
    return runs[0] if len(runs) == 1 else torch.cat(runs, 1)


def _ways(of: Heads, rotation: Tensor, positions: Tensor) -> list[tuple[Tensor, Tensor]]:
    """How keys and queries are turned: near, and, if they are, far."""
    near = rotation[positions]
    if not of.factor:
        return [(near, near)]
    coarse = positions // of.factor
    return [(near, near), (rotation[coarse], rotation[coarse + of.shift])]


def _turn(x: Tensor, rotation: Tensor) -> Tensor:
    """[…, T, D], by cosines and sines [T, D] -> fp32"""
    cos, sin = rotation.chunk(2, -1)
    low, high = x.float().chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
