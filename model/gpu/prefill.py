"""Many tokens at once, by PyTorch's own products and attention, into the cache that blocks go on from.

Letters: T tokens of the pass, S positions that they may see, H heads, G groups, D head width, K width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from kernels.weights import Four
from model.attention.gqa import GroupedQueryAttention
from model.attention.mla import LatentAttention
from model.cache import Cache, LayerCache
from model.decoder import Block, Decoder
from model.feed_forward import SwiGLU
from model.feed_forward.moe import ExpertLinear
from model.gpu.prefill_latent import latent_attention
from model.layers import Linear, RMSNorm
from model.quantised import Int4Linear, Int8Linear

LEAST_SEEN = 64
"""Positions that a pass sees at least, but at the very start."""
PIECE = 1024
"""Rows of a feed-forward at a time."""


class PromptLayers:
    """Blocks one after the other, for many tokens, in passes of fixed shape: where they start is a tensor."""

    def __init__(self, blocks: Iterable[nn.Module], rows: Iterable[LayerCache], rotation: Tensor) -> None:
        """rows: the blocks' caches, of one sequence each. rotation: fp32 [capacity, D], cosines then sines."""
        self._layers = [(block, tuple(part[0] for part in kept.rows)) for block, kept in zip(blocks, rows, strict=True)]
        self._rotation = rotation

    def __call__(self, x: Tensor, start: Tensor, seen: int | None) -> Tensor:
        """Residual stream at positions start …, fp32 [T, K] -> the same behind the last block.

        seen: positions to look at, S, at least start and the real tokens; None where start is 0. Tokens that only
        fill the shape may follow the real ones: nothing real sees them, and what they leave in the cache is
        overwritten later, or in its last row, which nobody reads.
        """
        mask = None
        y: Tensor | None = None
        for block, kept in self._layers:
            assert isinstance(block, Block)
            attention = block.attention
            if isinstance(attention, LatentAttention):
                positions = positions_from(start, len(x), kept[0][0].shape[0])
                x, normed = _add_norm(x, y, block.attention_norm, None)
                y = latent_attention(attention, normed, self._rotation, positions, kept[0][0], seen)
            else:
                assert isinstance(attention, GroupedQueryAttention)
                if seen is not None and mask is None:
                    positions = positions_from(start, len(x), kept[0].shape[1])
                    mask = torch.arange(seen, device=x.device) <= positions.unsqueeze(-1)  # [T, S]
                x, normed = _add_norm(x, y, block.attention_norm, attention.qkv)
                y = self._attention(attention, normed, start, mask, *kept)
            module = block.feed_forward
            x, normed = _add_norm(x, y, block.feed_forward_norm, getattr(module, "gate_up", None))
            y = _feed_forward(module, normed)
        assert y is not None
        found: Tensor = x + y
        return found

    def _attention(
        self, attention: GroupedQueryAttention, normed: Tensor, start: Tensor, mask: Tensor | None,
        keys: Tensor, values: Tensor,
    ) -> Tensor:  # fmt: skip
        """[T, K] -> [T, K]"""
        time, heads, groups = len(normed), attention.heads, attention.groups
        q = kernels.turn(product(attention.qkv, normed), self._rotation, keys, values, start)
        # Without a mask they begin at the start and see only themselves.
        seen = time if mask is None else mask.shape[1]
        k, v = (rows[:, :seen].repeat_interleave(heads // groups, 0) for rows in (keys, values))
        q = q.view(time, heads, -1).transpose(0, 1)
        y = F.scaled_dot_product_attention(
            q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), attn_mask=mask, is_causal=mask is None
        )
        y = y[0].transpose(0, 1).reshape(time, -1)
        return product(attention.out, y.to(attention.out.weight.dtype) if isinstance(attention.out, Linear) else y)


class Prefill:
    """A prompt's way through a decoder."""

    def __init__(self, decoder: Decoder, cache: Cache, rotation: Tensor) -> None:
        """rotation: fp32 [capacity, D], cosines then sines."""
        self.recordable = recordable(decoder)
        self._decoder = decoder
        self._layers = PromptLayers(decoder.blocks, cache.layers, rotation)

    def hidden(self, ids: Tensor, start: Tensor, seen: int | None) -> Tensor:
        """ids int32 [T] at positions start … -> the residual stream behind the last layer, fp32 [T, K].

        seen: as `PromptLayers` says.
        """
        return self._layers(self._decoder.embedding(ids.long()).float(), start, seen)


def seen_from(start: int, count: int, capacity: int) -> int | None:
    """What `PromptLayers` is told of `count` tokens from `start` on: None at the very start, else the least power of
    two that holds them, LEAST_SEEN at least, so that few shapes are recorded."""
    return min(max(1 << (start + count - 1).bit_length(), LEAST_SEEN), capacity) if start else None


def recordable(decoder: Decoder) -> bool:
    """Does no pass wait for the host?"""
    # PyTorch's product for experts on a GPU learns on the device whose rows are whose in bfloat16 alone.
    return decoder.dtype == torch.bfloat16 or not any(isinstance(module, ExpertLinear) for module in decoder.modules())


def positions_from(start: Tensor, count: int, capacity: int) -> Tensor:
    """int64 [count], positions from start int32 [1] on; those beyond a table of so many rows are its last."""
    return (start + torch.arange(count, device=start.device)).clamp_(max=capacity - 1)


def _add_norm(x: Tensor, y: Tensor | None, norm: RMSNorm, reader: nn.Module | None) -> tuple[Tensor, Tensor]:
    """x + y and the norm of it, [T, K], in what `reader` multiplies, if it is one that says so."""
    few = isinstance(reader, Int4Linear | Int8Linear)
    return kernels.add_norm(x, y, norm.weight, norm.eps, torch.bfloat16 if few else norm.weight.dtype)


def _feed_forward(module: nn.Module, normed: Tensor) -> Tensor:
    """[T, K] -> [T, K]"""
    if isinstance(module, SwiGLU):
        # What is between the products is ten times as wide as a row: it is the most that a prompt works in.
        into, out = reader(module.gate_up), reader(module.down)
        return torch.cat([out(kernels.swiglu(into(rows))) for rows in normed.split(PIECE)])
    y: Tensor = module(normed)
    return y


def product(module: nn.Module, x: Tensor) -> Tensor:
    """[T, K] -> [T, N]; of four bits in bfloat16, as it was multiplied: in fp32 it would be twice as large."""
    return reader(module)(x)


def reader(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The product with a matrix, several times, of four bits by one that is made once."""
    if isinstance(module, Int4Linear) and module.bias is None and isinstance(module.packed.data, Four):
        weight = kernels.widen(module.packed.data)
        return lambda x: F.linear(x.bfloat16(), weight)
    return module
