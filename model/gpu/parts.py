"""Modules of a decoder as the ops take them: norms, products, tables. Weights stay where they are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels.weights import Eight, Four, Head, Table, Weight
from model.config import Rope
from model.layers import Embedding, Linear, RMSNorm, frequencies
from model.quantised import Int4Linear, Int8Embedding, Int8Linear, Q8Linear

FORMAT = "its weights are in a format that the fused kernels do not read"


class Norm(NamedTuple):
    gain: Tensor
    eps: float


class Product(NamedTuple):
    weight: Weight
    bias: Tensor | None


class HeadProduct(NamedTuple):
    """The one whose result is scores."""

    weight: Head
    bias: Tensor | None


def norm_of(module: RMSNorm) -> Norm:
    """A norm as the ops take it."""
    return Norm(module.weight.detach(), module.eps)


def product_of(module: nn.Module) -> Product:
    """A product as the ops take it; `weight_of` says whether it can be."""
    weight, bias = weight_of(module), module.bias
    assert weight is not None and (bias is None or isinstance(bias, Tensor))
    return Product(weight, None if bias is None else bias.detach())


def head_of(module: nn.Module) -> HeadProduct | None:
    """What computes scores, as the ops take it; None if its weight is in another format."""
    if isinstance(module, Q8Linear):
        return HeadProduct(module.weight, None)
    return None if weight_of(module) is None else HeadProduct(*product_of(module))


def weight_of(module: nn.Module) -> Weight | None:
    """What the fused products read of a module; None if it has no such thing."""
    if isinstance(module, Linear):
        return module.weight.detach()
    if isinstance(module, Int4Linear | Int8Linear) and isinstance(module.packed.data, Tensor | Eight | Four):
        return module.packed.data if module.packed.implementation.__name__.endswith("_stream") else None
    return None


def table_of(module: nn.Module) -> Table | None:
    """The rows that ids stand for; None if they are in another format."""
    if isinstance(module, Embedding):
        return module.weight.detach()
    return module.table if isinstance(module, Int8Embedding) else None


def rotation_table(rope: Rope, positions: int, device: torch.device) -> Tensor:
    """Cosines, then sines, of every position: fp32 [positions, D]."""
    angles = torch.arange(positions, dtype=torch.float32).unsqueeze(-1) * frequencies(rope)
    return (torch.cat([angles.cos(), angles.sin()], -1) * rope.gain).to(device)
