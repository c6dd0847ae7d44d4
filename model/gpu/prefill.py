"""Many tokens at once, by PyTorch's own products and attention, into the cache that blocks go on from.

Letters: T tokens of the pass, S positions that they may see, H heads, G groups, D head width, K width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attention.gqa import GroupedQueryAttention
from model.cache import Cache
from model.decoder import Block, Decoder


class Prefill:
    """A pass of fixed shape, which a CUDA graph can record: where it starts is a tensor."""

    def __init__(self, decoder: Decoder, cache: Cache, rotation: Tensor) -> None:
        """rotation: fp32 [capacity, D], cosines then sines."""
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
        cos, sin = self._rotation[positions].unsqueeze(0).chunk(2, -1)  # [1, T, D/2]
        mask = None
        if seen is not None:
            mask = torch.arange(seen, device=ids.device) <= positions.unsqueeze(-1)  # [T, S]
        x: Tensor = self._decoder.embedding(ids.long()).float()
        for block, rows in zip(self._decoder.blocks, self._cache.layers, strict=True):
            assert isinstance(block, Block)
            keys, values = (kept[0] for kept in rows.rows)
            x = x + self._attention(block, x, (cos, sin), positions, (keys, values), mask)
            x = x + block.feed_forward(block.feed_forward_norm(x))
        return x

    def _attention(
        self,
        block: Block,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        positions: Tensor,
        cached: tuple[Tensor, Tensor],
        mask: Tensor | None,
    ) -> Tensor:
        """[T, K] -> [T, K]"""
        attention = block.attention
        assert isinstance(attention, GroupedQueryAttention)
        keys, values = cached
        heads, groups = attention.heads, attention.groups
        split = attention.qkv(block.attention_norm(x)).view(len(x), -1, attention.width).transpose(0, 1)
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
        z: Tensor = attention.out(y[0].transpose(0, 1).reshape(len(x), -1).to(self._decoder.dtype))
        return z


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
