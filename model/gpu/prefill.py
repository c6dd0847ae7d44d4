"""Many tokens at once, by PyTorch's own products and attention, into the cache that blocks go on from.

Letters: T tokens of the pass, S positions that they may see, H heads, G groups, D head width, K width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from kernels.weights import Four
from model.attention.gqa import GroupedQueryAttention
from model.attention.mla import LatentAttention
from model.cache import Cache
from model.decoder import Block, Decoder
from model.feed_forward import SwiGLU
from model.feed_forward.moe import ExpertLinear
from model.gpu.prefill_latent import latent_attention
from model.quantised import Int4Linear


class Prefill:
    """A pass of fixed shape, which a CUDA graph can record: where it starts is a tensor."""

    def __init__(self, decoder: Decoder, cache: Cache, rotation: Tensor) -> None:
        """rotation: fp32 [capacity, D], cosines then sines."""
        # PyTorch's product for experts on a GPU learns on the device whose rows are whose in bfloat16 alone.
        self.recordable = decoder.dtype == torch.bfloat16 or not any(
            isinstance(module, ExpertLinear) for module in decoder.modules()
        )
        """Does no pass wait for the host?"""
        self._decoder = decoder
        self._cache = cache
        self._rotation = rotation

    def hidden(self, ids: Tensor, start: Tensor, seen: int | None) -> Tensor:
        """ids int32 [T] at positions start … -> the residual stream behind the last layer, fp32 [T, K].

        seen: positions to look at, S, at least start and the real tokens; None where start is 0. Tokens that only
        fill the shape may follow the real ones: nothing real sees them, and what they leave in the cache is
        overwritten later, or in its last row, which nobody reads.
        """
        positions = (start + torch.arange(len(ids), device=ids.device)).clamp_(max=self._cache.max_length - 1)
        x: Tensor = self._decoder.embedding(ids.long()).float()
        for block, rows in zip(self._decoder.blocks, self._cache.layers, strict=True):
            assert isinstance(block, Block)
            normed = block.attention_norm(x)
            kept = tuple(part[0] for part in rows.rows)
            if isinstance(block.attention, LatentAttention):
                x = x + latent_attention(block.attention, normed, self._rotation, positions, kept[0][0], seen)
            else:
                x = x + self._attention(block.attention, normed, positions, kept, seen)
            x = x + _feed_forward(block.feed_forward, block.feed_forward_norm(x))
        return x

    def _attention(
        self, attention: nn.Module, normed: Tensor, positions: Tensor, cached: tuple[Tensor, ...], seen: int | None
    ) -> Tensor:
        """[T, K] -> [T, K]"""
        assert isinstance(attention, GroupedQueryAttention)
        rotation = self._rotation[positions].unsqueeze(0).chunk(2, -1)  # [1, T, D/2] each
        mask = None
        if seen is not None:
            mask = torch.arange(seen, device=normed.device) <= positions.unsqueeze(-1)  # [T, S]
        keys, values = cached
        heads, groups = attention.heads, attention.groups
        split = attention.qkv(normed).view(len(normed), -1, attention.width).transpose(0, 1)
        turned = _rotate(split[: heads + groups].float(), *rotation).to(keys.dtype)
        q, k, v = turned[:heads], turned[heads:], split[heads + groups :].to(values.dtype)
        keys.index_copy_(1, positions, k)
        values.index_copy_(1, positions, v)
        if mask is not None:
            k, v = keys[:, : mask.shape[1]], values[:, : mask.shape[1]]
        k, v = (rows.repeat_interleave(heads // groups, 0) for rows in (k, v))
        y = F.scaled_dot_product_attention(
            q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), attn_mask=mask, is_causal=mask is None
        )
        return _product(attention.out, y[0].transpose(0, 1).reshape(len(normed), -1).to(self._decoder.dtype))


def _feed_forward(module: nn.Module, normed: Tensor) -> Tensor:
    """[T, K] -> [T, K]"""
    if isinstance(module, SwiGLU):
        return _product(module.down, kernels.swiglu(_product(module.gate_up, normed)))
    y: Tensor = module(normed)
    return y


def _product(module: nn.Module, x: Tensor) -> Tensor:
    """[T, K] -> [T, N]; of four bits in bfloat16, as it was multiplied: in fp32 it would be twice as large."""
    if isinstance(module, Int4Linear) and module.bias is None and isinstance(module.packed.data, Four):
        return F.linear(x.bfloat16(), kernels.widen(module.packed.data))
    y: Tensor = module(x)
    return y


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
