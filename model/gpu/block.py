"""One pass over a block of few tokens, by the fused ops of `kernels`.

Letters: R rows of the block, K width, V vocabulary, S capacity of the cache, D head width.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

import kernels
from kernels import launching
from kernels.stack import MOST_ROWS as AT_ONCE
from kernels.stack import LayerWeights, stack
from model.attention.mla import LatentAttention
from model.cache import Cache
from model.decoder import Block, Decoder
from model.errors import ModelUsageError
from model.gpu import halves
from model.gpu.halves import AttentionHalf, Dense, FeedForwardHalf, Grouped, attention_half, feed_forward_half
from model.gpu.parts import FORMAT, norm_of, product_of, rotation_table, table_of, weight_of

log = logging.getLogger(__name__)

MOST_ROWS = 32
"""Rows of a block."""


FEWEST = 4
"""Layers for which one launch pays: it begins with nothing copied ahead, and nothing runs beside its beginning."""


class Layer(NamedTuple):
    """A layer's weights, by what reads them, and the rows of its cache."""

    attention: AttentionHalf
    feed_forward: FeedForwardHalf


def unsupported(decoder: Decoder) -> str | None:
    """Why a decoder cannot be computed here, in a few words; None if it can."""
    config = decoder.config
    if config.latent is None and config.rope.width != config.head_width:
        return f"heads of width {config.head_width}, {config.rope.width} of it rotary, have no fused kernels"
    for block in decoder.blocks:
        assert isinstance(block, Block)
        if found := halves.problem(block.attention, block.feed_forward):
            return found
    return FORMAT if table_of(decoder.embedding) is None or weight_of(decoder.projection) is None else None


class BlockPass:
    """The decoder's weights and cache as the ops take them. They write the cache's rows; its length is the caller's."""

    def __init__(self, decoder: Decoder, cache: Cache) -> None:
        if problem := unsupported(decoder):
            raise ModelUsageError(f"this model cannot be computed by fused kernels: {problem}")
        table = table_of(decoder.embedding)
        assert table is not None
        self.embedding = table
        self.rotation = rotation_table(decoder.config.rope, places(decoder, cache.max_length), decoder.device)
        self.layers = [
            layer_of(block, rows.rows)
            for block, rows in zip(decoder.blocks, cache.layers, strict=True)
            if isinstance(block, Block)
        ]
        self._through = passage(self.layers, self.rotation)
        self.norm = norm_of(decoder.norm)
        self.projection = product_of(decoder.projection)

    def hidden(self, ids: Tensor, start: Tensor) -> Tensor:
        """ids int32 [R] at positions start … -> the residual stream behind the last layer, fp32 [R, K]."""
        return self._through(kernels.embed(ids, self.embedding), start)

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, K] -> fp32 [R, V]"""
        return kernels.norm_linear(hidden, *self.norm, *self.projection)


def places(decoder: Decoder, capacity: int) -> int:
    """Rows that the table of rotations needs, for so many positions."""
    block = decoder.blocks[0]
    assert isinstance(block, Block)
    attention = block.attention
    return halves.heads_of(attention).places(capacity) if isinstance(attention, LatentAttention) else capacity


class Passage(Protocol):
    """A way through layers."""

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        """fp32 [R, K] at positions start … -> fp32 [R, K]"""
        ...


class KernelByKernel:
    """Five or more kernels a layer, for any number of rows and any kind of layer."""

    def __init__(self, layers: Sequence[Layer], rotation: Tensor) -> None:
        self._layers = layers
        self._rotation = rotation

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        for layer in self._layers:
            x = layer.feed_forward(layer.attention(x, self._rotation, start))
        return x


class OneLaunch:
    """All layers in one kernel, eight rows at a time: so a row's sums are the same whatever is computed beside it."""

    def __init__(self, layers: Sequence[LayerWeights], rotation: Tensor) -> None:
        self._stack = stack(layers)
        self._rotation = rotation

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        found = [
            kernels.layers(rows, self._stack, self._rotation, start if i == 0 else start + i * AT_ONCE)
            for i, rows in enumerate(x.split(AT_ONCE))
        ]
        return found[0] if len(found) == 1 else torch.cat(found)


def passage(layers: Sequence[Layer], rotation: Tensor) -> Passage:
    """In one launch where that is asked for (`VIABLE_ONE_LAUNCH=1`) and possible; which it is, is logged."""
    if launching.one_launch() and len(layers) >= FEWEST:
        together = [_together(layer) for layer in layers]
        weights = [each for each in together if each is not None]
        reason = (
            kernels.unlaunchable(weights)
            if len(weights) == len(layers)
            else "they are of a kind, or have biases or norms, that no such kernel has"
        )
        if reason is None:
            log.info("%d layers are computed in one launch", len(layers))
            return OneLaunch(weights, rotation)
        log.warning("%d layers are computed kernel by kernel: %s", len(layers), reason)
    return KernelByKernel(layers, rotation)


def _together(layer: Layer) -> LayerWeights | None:
    """A layer as `kernels.layers` takes it."""
    attention, feed_forward = layer
    if not isinstance(attention, Grouped) or not isinstance(feed_forward, Dense):
        return None
    if any(part.bias is not None for part in (attention.out, feed_forward.gate_up, feed_forward.down)):
        return None
    if attention.norm.eps != feed_forward.norm.eps:
        return None
    return LayerWeights(
        attention_gain=attention.norm.gain,
        feed_forward_gain=feed_forward.norm.gain,
        eps=attention.norm.eps,
        qkv=attention.qkv.weight,
        bias=attention.qkv.bias,
        out=attention.out.weight,
        gate_up=feed_forward.gate_up.weight,
        down=feed_forward.down.weight,
        keys=attention.keys,
        values=attention.values,
    )


def layer_of(block: Block, rows: tuple[Tensor, ...]) -> Layer:
    """What a block's modules hold, and the rows of its cache."""
    return Layer(
        attention_half(block.attention_norm, block.attention, rows),
        feed_forward_half(block.feed_forward_norm, block.feed_forward),
    )
