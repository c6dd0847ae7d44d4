"""Chunks of latents put together, and values made of them, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import merge_reference
from kernels.latent import Heads


def merge_latent(
    means: Tensor, sums: Tensor, up: Tensor, start: Tensor, of: Heads, chunk: int, dtype: torch.dtype
) -> Tensor:
    latents = merge_reference.merge(means, sums, start, chunk, torch.float32).view(-1, of.heads, of.latent)
    values = up.double().view(of.heads, of.plain + of.value, of.latent)[:, of.plain :]
    return torch.einsum("rhc,hvc->rhv", latents.double(), values).flatten(1).to(dtype)
