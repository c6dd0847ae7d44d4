"""One pass over a block of few tokens, by the fused ops of `kernels`.

Letters: R rows of the block, K width, V vocabulary, S capacity of the cache, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import kernels
from kernels.finishing import Finish
from kernels.ranking import Scores
from model.attention.mla import LatentAttention
from model.cache import Cache
from model.decoder import Block, Decoder
from model.errors import ModelUsageError
from model.gpu import halves
from model.gpu.halves import CHUNK, AttentionHalf, Dense, FeedForwardHalf, Grouped, attention_half, feed_forward_half
from model.gpu.parts import FORMAT, head_of, norm_of, rotation_table, table_of

MOST_ROWS = 32
"""Rows of a block."""


class Layer(NamedTuple):
    """A layer's weights, by what reads them, and the rows of its cache."""

    attention: AttentionHalf
    feed_forward: FeedForwardHalf

    def __call__(self, x: Tensor, rotation: Tensor, start: Tensor) -> Tensor:
        return self.feed_forward(self.attention(x, rotation, start))


def unsupported(decoder: Decoder) -> str | None:
    """Why a decoder cannot be computed here, in a few words; None if it can."""
    config = decoder.config
    if config.latent is None and config.rope.width != config.head_width:
        return f"heads of width {config.head_width}, {config.rope.width} of it rotary, have no fused kernels"
    for block in decoder.blocks:
        assert isinstance(block, Block)
        if found := halves.problem(block.attention, block.feed_forward):
            return found
    return FORMAT if table_of(decoder.embedding) is None or head_of(decoder.projection) is None else None


class BlockPass:
    """The decoder's weights and cache as the ops take them. They write the cache's rows; its length is the caller's."""

    def __init__(self, decoder: Decoder, cache: Cache) -> None:
        if problem := unsupported(decoder):
            raise ModelUsageError(f"this model cannot be computed by fused kernels: {problem}")
        table, head = table_of(decoder.embedding), head_of(decoder.projection)
        assert table is not None and head is not None
        self.embedding = table
        self.rotation = rotation_table(decoder.config.rope, places(decoder, cache.max_length), decoder.device)
        self.layers = [
            layer_of(block, rows.rows)
            for block, rows in zip(decoder.blocks, cache.layers, strict=True)
            if isinstance(block, Block)
        ]
        self._through = Layers(self.layers, self.rotation)
        self.norm = norm_of(decoder.norm)
        self.projection = head

    def hidden(self, ids: Tensor, start: Tensor) -> Tensor:
        """ids int32 [R] at positions start … -> the residual stream behind the last layer, fp32 [R, K]."""
        return self._through(kernels.embed(ids, self.embedding), start)

    @property
    def through(self) -> list[Layer | Joined]:
        """The layers as they are computed."""
        return self._through.each

    def scores(self, hidden: Tensor) -> Scores:
        """[R, K] -> scores fp32 [R, V], and the highest of each segment of them."""
        return kernels.norm_scores(hidden, *self.norm, *self.projection)

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, K] -> fp32 [R, V]"""
        return self.scores(hidden).logits


def places(decoder: Decoder, capacity: int) -> int:
    """Rows that the table of rotations needs, for so many positions."""
    block = decoder.blocks[0]
    assert isinstance(block, Block)
    attention = block.attention
    return halves.heads_of(attention).places(capacity) if isinstance(attention, LatentAttention) else capacity


class Layers:
    """One after the other: three or more kernels each, for any number of rows."""

    def __init__(self, layers: Sequence[Layer], rotation: Tensor) -> None:
        counter = torch.zeros(1, dtype=torch.int32, device=rotation.device)
        self.each: list[Layer | Joined] = [_joined(layer, counter) or layer for layer in layers]
        self._rotation = rotation

    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        """fp32 [R, K] at positions start … -> fp32 [R, K]"""
        for layer in self.each:
            x = layer(x, self._rotation, start)
        return x


class Joined(NamedTuple):
    """A layer of grouped-query attention and a SwiGLU, in three kernels."""

    attention: Grouped
    rest: Finish

    def __call__(self, x: Tensor, rotation: Tensor, start: Tensor) -> Tensor:
        found = self.attention.attend(x, rotation, start)
        return kernels.finish(x, *found, start, CHUNK, self.rest)


def _joined(layer: Layer, counter: Tensor) -> Joined | None:
    attention, feed_forward = layer
    if not isinstance(attention, Grouped) or not isinstance(feed_forward, Dense):
        return None
    rest = Finish(*attention.out, *feed_forward.norm, *feed_forward.gate_up, *feed_forward.down, counter)
    return Joined(attention, rest)


def layer_of(block: Block, rows: tuple[Tensor, ...]) -> Layer:
    """What a block's modules hold, and the rows of its cache."""
    return Layer(
        attention_half(block.attention_norm, block.attention, rows),
        feed_forward_half(block.feed_forward_norm, block.feed_forward),
    )
