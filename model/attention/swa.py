"""Sliding-window attention: grouped-query attention that sees the last W positions, its own among them.

Source: Beltagy et al., "Longformer", 2020, section 3.1; causal as in Jiang et al., "Mistral 7B", 2023.
Letters: H query heads, G groups, D head width, S positions, W window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attention.gqa import GroupedQueryAttention, rows_apart
from model.attention.span import Span, apart
from model.config import ModelConfig
from model.layers import ROWS_APART

RUN = 256
"""Queries computed at a time: each run looks at W + RUN - 1 keys, however many there are."""


class SlidingWindowAttention(GroupedQueryAttention):
    """Only what is looked at differs."""

    def __init__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__(config, layer, dtype)
        self.window = config.window

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, span: Span) -> Tensor:
        """q [B, H, T, D], k and v [B, G, S, D] -> [B, H, T, D]"""
        if k.shape[2] <= self.window:
            return super()._attend(q, k, v, span)
        if span.time <= ROWS_APART and q.device.type == "cpu":
            single = apart((q,), (k, v), span)
            return torch.cat([rows_apart(row, *self._last(keys, values, at)) for row, keys, values, at in single], 2)
        runs = [self._run(part, k, v, span.start + i * RUN) for i, part in enumerate(q.split(RUN, 2))]
        return torch.cat(runs, 2)

    def _last(self, k: Tensor, v: Tensor, span: Span) -> tuple[Tensor, Tensor, Span]:
        """What the query at the end of `span` sees."""
        first = max(0, k.shape[2] - self.window)
        return k[:, :, first:], v[:, :, first:], Span(span.start - first, 1, span.rotation, span.dtype)

    def _run(self, q: Tensor, k: Tensor, v: Tensor, first: int) -> Tensor:
        """The queries at `first` and after it."""
        end = first + q.shape[2]
        seen = slice(max(0, first - self.window + 1), end)
        at = torch.arange(first, end, device=q.device).unsqueeze(-1)
        back = at - torch.arange(seen.start, end, device=q.device)
        mask = (back >= 0) & (back < self.window)
        return F.scaled_dot_product_attention(q, k[:, :, seen], v[:, :, seen], attn_mask=mask, enable_gqa=True)
