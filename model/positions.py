"""Grouped relative positions: a key is turned twice, for queries that are near and for queries that are far.

Rotary scores depend on the difference of two positions alone. Beyond a window of W, positions are counted in steps of
g: the query at i is turned as if it stood at i // g + W - W // g, the key at j as if at j // g. Both turns of a key
depend on j only, so that both can be cached. Distances seen grow to W + (L - W)/g where they would grow to L.

Not to be confused with GRPO, the reinforcement-learning method whose letters the article borrows.
Source: Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", 2024, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import Grouped, ModelConfig
from model.errors import BadModelFile
from model.layers import Rotary

Rotation = tuple[Tensor, Tensor]


class GroupedRotation(tuple[Tensor, Tensor]):
    """What `rotate` takes for near keys; and the turns of queries and of keys that see each other from afar."""

    query: Rotation
    key: Rotation
    _both: dict[int, Rotation]

    @classmethod
    def of(cls, near: Rotation, query: Rotation, key: Rotation) -> GroupedRotation:
        made = cls(near)
        made.query, made.key = query, key
        made._both = {}
        return made

    def both(self, heads: int) -> Rotation:
        """For a key and the queries of `heads` heads below it [B, 1 + heads, T, R]: near, and far, in one turn.

        Cosines and sines [2, 1, 1 + heads, T, R]; made once for all layers.
        """
        if heads not in self._both:
            near, key, queries = (torch.stack(way).unsqueeze(1) for way in (self, self.key, self.query))
            far = torch.cat([key, queries.expand(-1, heads, -1, -1)], 1)
            cos, sin = torch.stack([near.expand_as(far), far], 1).unsqueeze(2)
            self._both[heads] = cos, sin
        return self._both[heads]


class GroupedRotary(Rotary):
    """Cosines and signed sines of positions, near and far."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__(config.rope, dtype)
        self.grouped = grouped(config)

    def forward(self, positions: Tensor) -> GroupedRotation:
        """positions [T] -> three pairs of [T, width]."""
        coarse = positions // self.grouped.factor
        shift = self.grouped.window - self.grouped.window // self.grouped.factor
        cos, sin = super().forward(torch.stack([positions, coarse + shift, coarse]))
        return GroupedRotation.of(*zip(cos, sin, strict=True))


def plain_rotary(config: ModelConfig, dtype: torch.dtype) -> Rotary:
    """Every position where it is."""
    return Rotary(config.rope, dtype)


def grouped(config: ModelConfig) -> Grouped:
    """The window and the factor; BadModelFile if the configuration has none."""
    if config.grouped is None:
        raise BadModelFile(f"attention '{config.attention}' needs a window and a factor, and the config has none")
    return config.grouped
