"""The feed-forward halves of a block, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from model.config import ModelConfig
from model.errors import UnsupportedModel
from model.feed_forward.dense import SwiGLU
from model.feed_forward.moe import MixtureOfExperts

__all__ = ["FEED_FORWARDS", "MixtureOfExperts", "SwiGLU", "feed_forward"]

FEED_FORWARDS: dict[str, Callable[[ModelConfig, torch.dtype], nn.Module]] = {"dense": SwiGLU, "moe": MixtureOfExperts}


def feed_forward(name: str) -> Callable[[ModelConfig, torch.dtype], nn.Module]:
    """The class called `name`; UnsupportedModel names it and those that are known."""
    if name not in FEED_FORWARDS:
        raise UnsupportedModel(f"no feed-forward is called '{name}' (known: {', '.join(sorted(FEED_FORWARDS))})")
    return FEED_FORWARDS[name]
