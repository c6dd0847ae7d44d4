"""Grouped positions in both kinds of attention: near and far keys beside each other in the cache.

While all positions fit the window this is attention with plain rotary positions, bit for bit.
Letters: H heads, G groups, D head width, R rotary features, T queries, S keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.attention import regions
from model.attention.gqa import GroupedQueryAttention
from model.attention.mla import LatentAttention, causal_attention
from model.attention.span import Span, apart, attended
from model.cache import LayerCache, LayerCaches, Row
from model.config import ModelConfig
from model.layers import ROWS_APART, rotate
from model.positions import GroupedRotary, GroupedRotation, grouped


class Temperatures(nn.Module):
    """What each head multiplies its near and its far scores with, [2, H]; trained last (`Grouped.tempered`)."""

    weight: nn.Parameter

    def __init__(self, heads: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, heads, dtype=dtype), requires_grad=False)

    def forward(self, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, H, T, D], near and far."""
        return near * self.weight[0].view(-1, 1, 1), far * self.weight[1].view(-1, 1, 1)


class Untempered(nn.Module):
    """Scores as they are."""

    def forward(self, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        return near, far


def temperatures(config: ModelConfig, dtype: torch.dtype) -> nn.Module:
    """As the configuration says."""
    return Temperatures(config.heads, dtype) if grouped(config).tempered else Untempered()


class GroupedLatentAttention(LatentAttention):
    """A cached row is [near rotary key R | latent C | far rotary key R]: both kinds of keys are a run of it."""

    rotary = GroupedRotary

    def __init__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__(config, layer, dtype)
        self.window, self.factor = grouped(config).window, grouped(config).factor
        self.temperatures = temperatures(config, dtype)

    @staticmethod
    def rows(config: ModelConfig, layer: int) -> tuple[Row, ...]:
        """The latent between two turns of the rotary key."""
        (row,) = LatentAttention.rows(config, layer)
        return (Row(1, row.width + config.rope.width),)

    def _turned(self, key: Tensor, queries: Tensor, span: Span) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        heads = [1, self.heads]
        near, far = rotate(torch.cat([key, queries], 1), _rotation(span).both(self.heads)).unbind()
        near_key, near_queries = near.split_with_sizes(heads, 1)
        far_key, far_queries = far.split_with_sizes(heads, 1)
        return (near_key, far_key), (near_queries, far_queries)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
        near, far = self.temperatures(queries[..., : -self.rotary_width], queries[..., self.rotary_width :])
        near, far = near.to(span.dtype), far.to(span.dtype)
        near_keys, far_keys = keys[..., : -self.rotary_width], keys[..., self.rotary_width :]
        if keys.shape[2] <= self.window:
            return causal_attention(near, near_keys, values, self.scale, span)
        return regions.attend((near * self.scale, near_keys), (far * self.scale, far_keys), values, self.window)


class GroupedPositionAttention(GroupedQueryAttention):
    """A cached key is [near D | far D]."""

    rotary = GroupedRotary

    def __init__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__(config, layer, dtype)
        self.window = grouped(config).window
        self.temperatures = temperatures(config, dtype)

    @staticmethod
    def rows(config: ModelConfig, layer: int) -> tuple[Row, ...]:
        """Keys, turned twice, and values."""
        return (Row(config.groups, 2 * config.head_width), Row(config.groups, config.head_width))

    def forward(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        batch, time, _ = x.shape
        split = self.qkv(x).view(batch, time, -1, self.width).transpose(1, 2)
        q, k, v = split.split([self.heads, self.groups, self.groups], 1)
        rotation = _rotation(span)
        k = torch.cat([rotate(k, rotation), rotate(k, rotation.key)], -1).to(span.dtype)
        v = v.to(span.dtype)
        tempered = self.temperatures(rotate(q, rotation), rotate(q, rotation.query))
        near, far = (queries.to(span.dtype) for queries in tempered)
        y = attended(
            (near, far),
            (k, v),
            span,
            cache,
            lambda own, seen, at: self._near_and_far(own[0], own[1], seen[0], seen[1], at),
        )
        z: Tensor = self.out(y.to(x.dtype).transpose(1, 2).reshape(batch, time, -1))
        return z

    def _near_and_far(self, near: Tensor, far: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
        """near and far [B, H, T, D], k [B, G, S, 2D], v [B, G, S, D] -> [B, H, T, D]"""
        if k.shape[2] <= self.window:
            return self._attend(near, k[..., : self.width], v, span)
        if 1 < span.time <= ROWS_APART and k.device.type == "cpu":
            return torch.cat([self._near_and_far(*rows) for rows in apart((near, far), (k, v), span)], 2)
        scale = self.width**-0.5
        return regions.attend((near * scale, k[..., : self.width]), (far * scale, k[..., self.width :]), v, self.window)


def _rotation(span: Span) -> GroupedRotation:
    assert isinstance(span.rotation, GroupedRotation)
    return span.rotation
