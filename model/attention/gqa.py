"""Grouped-query attention: H query heads share G key/value heads.

Source: Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention.span import Span, attended
from model.cache import LayerCache, LayerCaches, Row
from model.config import ModelConfig
from model.layers import ROWS_APART, Linear, rotate
from model.positions import plain_rotary

# Up to so many queries, the heads of a group are stacked into one taller query: each key is then read once per group.
STACKED_ROWS = 32


class GroupedQueryAttention(nn.Module):
    """Letters: H query heads, G groups, D head width, S positions seen (cached and new)."""

    rotary = staticmethod(plain_rotary)

    def __init__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads, self.groups, self.width = config.heads, config.groups, config.head_width
        queries, keys = self.heads * self.width, self.groups * self.width
        self.qkv = Linear(config.width, (queries, keys, keys), config.qkv_bias, dtype)
        self.out = Linear(queries, (config.width,), config.out_bias, dtype)

    @staticmethod
    def rows(config: ModelConfig, layer: int) -> tuple[Row, ...]:
        """Keys and values."""
        return (Row(config.groups, config.head_width), Row(config.groups, config.head_width))

    def forward(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        batch, time, _ = x.shape
        heads = self.qkv(x).view(batch, time, -1, self.width).transpose(1, 2)  # [B, H + 2G, T, D]
        turned = rotate(heads[:, : self.heads + self.groups], span.rotation).to(span.dtype)
        q, k = turned[:, : self.heads], turned[:, self.heads :]
        v = heads[:, self.heads + self.groups :].to(span.dtype)
        y = attended((q,), (k, v), span, cache, lambda own, seen, at: self._attend(own[0], seen[0], seen[1], at))
        z: Tensor = self.out(y.transpose(1, 2).reshape(batch, time, -1))
        return z

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
        """q [B, H, T, D], k and v [B, G, S, D] -> [B, H, T, D]"""
        if span.time <= ROWS_APART and q.device.type == "cpu":
            return rows_apart(q, k, v, span)
        if span.start == 0:
            return F.scaled_dot_product_attention(q, k, v, is_causal=span.time > 1, enable_gqa=True)
        if span.time > STACKED_ROWS:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=span.causal(1), enable_gqa=True)
        stacked = q.reshape(q.shape[0], self.groups, -1, self.width)  # [B, G, H/G·T, D]
        mask = span.causal(self.heads // self.groups) if span.time > 1 else None
        return F.scaled_dot_product_attention(stacked, k, v, attn_mask=mask).reshape(q.shape)


def rows_apart(q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
    """Causal attention, query by query, so that none depends on those beside it: q [B, H, T, D] -> [B, H, T, E].

    A sum's last bit depends on its order, and the order on the shape of the product and on where its numbers lie: each
    query has its own copy and its own products with the keys that it sees, whichever pass it is part of.
    k [B, G, S, D], v [B, G, S, E].
    """
    batch, heads, time, _ = q.shape
    rows = []
    for row in range(time):
        seen = span.start + row + 1
        stacked = (
            q[:, :, row].clone(memory_format=torch.contiguous_format).view(batch, k.shape[1], -1, q.shape[-1])
        )  # [B, G, H/G, D]
        y = F.scaled_dot_product_attention(stacked, k[:, :, :seen], v[:, :, :seen])
        rows.append(y.reshape(batch, heads, 1, v.shape[-1]))
    return rows[0] if time == 1 else torch.cat(rows, 2)
