"""A tiny decoder with every part that an architecture may have, and how to compare two results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model import Decoder, ModelConfig
from model.config import Experts, Grouped, Latent, Rope
from model.fresh import fresh

CONFIG = ModelConfig(
    family="viable",
    vocab_size=100,
    width=64,
    layers=3,
    heads=4,
    groups=2,
    head_width=32,
    feed_forward_width=96,
    context_length=1024,
    rope=Rope(10_000.0, 16),
    norm_eps=1e-6,
    tied_head=False,
    qkv_bias=False,
    out_bias=False,
    feed_forward_bias=False,
    attention="mla",
    latent=Latent(40, 24, 32),
    window=50,
    grouped=Grouped(50, 8),
    experts=Experts(16, 4, 24, groups=4, chosen_groups=2, shared=1, first=1),
)


def made(seed: int = 1, dtype: torch.dtype = torch.float32, **changes: Any) -> Decoder:
    """CONFIG with `changes`, with weights large enough for scores to differ, and biases and norms that count."""
    decoder = fresh(replace(CONFIG, **changes), seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in decoder.parameters():
            if weight.dim() == 1:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
            else:
                weight *= 5
    return decoder


def ids(count: int, batch: int = 2, seed: int = 3) -> Tensor:
    """[batch, count]"""
    return torch.randint(CONFIG.vocab_size, (batch, count), generator=torch.Generator().manual_seed(seed))


def in_pieces(decoder: Decoder, tokens: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Logits of `tokens`, which went through a cache in pieces of these sizes."""
    cache = decoder.new_cache(tokens.shape[1], len(tokens))
    with torch.inference_mode():
        return decoder.head(torch.cat([decoder.hidden(part, cache) for part in tokens.split(sizes, 1)], 1))


def relative_rms(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).pow(2).mean().sqrt() / theirs.pow(2).mean().sqrt())
