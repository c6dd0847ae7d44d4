"""Attention by name, and what each kind promises.

An attention is a module built from the config. It declares the rows that one position leaves in the cache (`rows`), so
that the cache allocates and truncates without knowing kinds, and how positions are turned (`rotary`). To swap one in,
give `ModelConfig.attention` its name.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from model.attention.gqa import GroupedQueryAttention
from model.attention.grouped import GroupedLatentAttention, GroupedPositionAttention
from model.attention.mla import LatentAttention
from model.attention.swa import SlidingWindowAttention
from model.cache import Row
from model.config import ModelConfig
from model.errors import UnsupportedModel
from model.layers import Rotary


class Attention(Protocol):
    """A kind of attention: called with a config it makes a module of x [B, T, K], span, cache -> [B, T, K]."""

    def __call__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> nn.Module: ...

    def rows(self, config: ModelConfig, layer: int) -> tuple[Row, ...]: ...

    def rotary(self, config: ModelConfig, dtype: torch.dtype) -> Rotary: ...


ATTENTIONS: dict[str, Attention] = {
    "gqa": GroupedQueryAttention,
    "gqa-grouped": GroupedPositionAttention,
    "mla": LatentAttention,
    "mla-grouped": GroupedLatentAttention,
    "swa": SlidingWindowAttention,
}


def attention(name: str) -> Attention:
    """The class called `name`; UnsupportedModel names it and those that are known."""
    if name not in ATTENTIONS:
        raise UnsupportedModel(f"no attention is called '{name}' (known: {', '.join(sorted(ATTENTIONS))})")
    return ATTENTIONS[name]
