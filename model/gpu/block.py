"""One pass over a block of few tokens, by the fused ops of `kernels`.

Letters: R rows of the block, K width, V vocabulary, S capacity of the cache, D head width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
from kernels.weights import Eight, Four, Weight, activations
from model.attention.gqa import GroupedQueryAttention
from model.cache import Cache
from model.decoder import Block, Decoder
from model.errors import ModelUsageError
from model.feed_forward import SwiGLU
from model.layers import Embedding, Linear, RMSNorm, frequencies
from model.quantised import Int4Linear, Int8Embedding, Int8Linear

CHUNK = 128
"""Keys that one program of the attention sees."""


class Norm(NamedTuple):
    gain: Tensor
    eps: float


class Product(NamedTuple):
    weight: Weight
    bias: Tensor | None


class Layer(NamedTuple):
    """A layer's weights, by what reads them."""

    attention_norm: Norm
    qkv: Product
    out: Product
    feed_forward_norm: Norm
    gate_up: Product
    down: Product
    keys: Tensor  # [G, S, D]
    values: Tensor  # [G, S, D]


def unsupported(decoder: Decoder) -> str | None:
    """Why a decoder cannot be computed here, in a few words; None if it can."""
    config = decoder.config
    width = config.head_width
    if config.attention != "gqa" or any(config.feed_forward_at(i) != "dense" for i in range(config.layers)):
        return "its attention or feed-forward has no fused kernels"
    if width % 32 or width & (width - 1) or config.rope.width != width:
        return f"heads of width {width}, {config.rope.width} of it rotary, have no fused kernels"
    if _table(decoder.embedding) is None or any(_weight(module) is None for module in _linears(decoder)):
        return "its weights are in a format that the fused kernels do not read"
    return None


def _linears(decoder: Decoder) -> list[nn.Module]:
    return [decoder.projection] + [
        module
        for block in decoder.blocks
        if isinstance(block, Block)
        for module in (block.attention.qkv, block.attention.out, block.feed_forward.gate_up, block.feed_forward.down)
    ]


def rotation_table(decoder: Decoder, positions: int) -> Tensor:
    """Cosines, then sines, of every position: fp32 [positions, D]."""
    angles = torch.arange(positions, dtype=torch.float32).unsqueeze(-1) * frequencies(decoder.config.rope)
    return torch.cat([angles.cos(), angles.sin()], -1).to(decoder.device)


class BlockPass:
    """The decoder's weights and cache as the ops take them. They write the cache's rows; its length is the caller's."""

    def __init__(self, decoder: Decoder, cache: Cache) -> None:
        if problem := unsupported(decoder):
            raise ModelUsageError(f"this model cannot be computed by fused kernels: {problem}")
        table = _table(decoder.embedding)
        assert table is not None
        self.embedding = table
        self.rotation = rotation_table(decoder, cache.max_length)
        self.layers = [
            _layer(block, rows.rows)
            for block, rows in zip(decoder.blocks, cache.layers, strict=True)
            if isinstance(block, Block)
        ]
        self.norm = _norm(decoder.norm)
        self.projection = _product(decoder.projection)

    def hidden(self, ids: Tensor, start: Tensor) -> Tensor:
        """ids int32 [R] at positions start … -> the residual stream behind the last layer, fp32 [R, K]."""
        x = kernels.embed(ids, self.embedding)
        for layer in self.layers:
            qkv = kernels.norm_linear(x, *layer.attention_norm, *layer.qkv)
            found = kernels.attend(qkv, self.rotation, layer.keys, layer.values, start, CHUNK)
            seen = kernels.merge(*found, start, CHUNK, activations(layer.out.weight))
            x = kernels.linear_add(x, seen, *layer.out)
            inner = kernels.norm_swiglu(x, *layer.feed_forward_norm, *layer.gate_up)
            x = kernels.linear_add(x, inner, *layer.down)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, K] -> fp32 [R, V]"""
        return kernels.norm_linear(hidden, *self.norm, *self.projection)


def _layer(block: Block, rows: tuple[Tensor, ...]) -> Layer:
    attention, feed_forward = block.attention, block.feed_forward
    assert isinstance(attention, GroupedQueryAttention) and isinstance(feed_forward, SwiGLU)
    keys, values = (kept[0] for kept in rows)
    return Layer(
        _norm(block.attention_norm),
        _product(attention.qkv),
        _product(attention.out),
        _norm(block.feed_forward_norm),
        _product(feed_forward.gate_up),
        _product(feed_forward.down),
        keys,
        values,
    )


def _norm(module: RMSNorm) -> Norm:
    return Norm(module.weight.detach(), module.eps)


def _product(module: nn.Module) -> Product:
    weight, bias = _weight(module), module.bias
    assert weight is not None and (bias is None or isinstance(bias, Tensor))
    return Product(weight, None if bias is None else bias.detach())


def _weight(module: nn.Module) -> Weight | None:
    """What the fused products read of a module; None if it has no such thing."""
    if isinstance(module, Linear):
        return module.weight.detach()
    if isinstance(module, Int4Linear | Int8Linear) and isinstance(module.packed.data, Tensor | Eight | Four):
        return module.packed.data if module.packed.implementation.__name__.endswith("_stream") else None
    return None


def _table(module: nn.Module) -> Tensor | Eight | None:
    """The rows that ids stand for; None if they are in another format."""
    if isinstance(module, Embedding):
        return module.weight.detach()
    return module.table if isinstance(module, Int8Embedding) else None
