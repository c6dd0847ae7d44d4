"""The decoder: embedding → blocks → norm → projection. Which attention and feed-forward, the config says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from model.attention import attention
from model.attention.span import Span
from model.cache import Cache, LayerCache, LayerCaches
from model.config import ModelConfig
from model.errors import ModelUsageError
from model.feed_forward import feed_forward
from model.layers import Embedding, Linear, RMSNorm
from model.quantised import normed_product

# Longer prompts go through the cache in pieces, so that what a pass needs besides weights and cache stays bounded.
PIECE = 1024  # tokens


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.attention = attention(config.attention)(config, layer, dtype)
        self.feed_forward_norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.feed_forward = feed_forward(config.feed_forward_at(layer))(config, dtype)

    def forward(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        x = x + self.attention(self.attention_norm(x), span, cache)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y

    def run(self, x: Tensor, span: Span, layers: Sequence[LayerCache | LayerCaches | None]) -> tuple[Tensor, int]:
        """This block, for the first of `layers`, and how many blocks that were: others may take more of them."""
        return self(x, span, layers[0]), 1


class Decoder(nn.Module):
    """ids [B, T] -> logits [B, T, V].

    Differentiable without a cache; with one, run it under `torch.inference_mode()`.
    """

    def __init__(
        self, config: ModelConfig, dtype: torch.dtype = torch.float32, rows: torch.dtype | None = None
    ) -> None:
        """dtype: of activations and of weights. rows: of attention and what it caches; as `dtype`, if not given."""
        super().__init__()
        self.config = config
        self.dtype = dtype
        self.rows = rows or dtype
        self.embedding: nn.Module = Embedding(config.vocab_size, config.width, dtype)
        self.rotary: nn.Module = attention(config.attention).rotary(config, dtype)
        self.blocks = nn.ModuleList(Block(config, i, dtype) for i in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps, dtype)
        self.projection: nn.Module = Linear(config.width, (config.vocab_size,), False, dtype)

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B, T] -> logits [B, T, V], without a cache."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor, cache: Cache | None = None, between: Callable[[], None] = lambda: None) -> Tensor:
        """ids [B, T] -> the residual stream after the last block, before the final norm: [B, T, K].

        Positions follow those of `cache`, which takes in the new rows; without one they start at 0. `between` is called
        before each block; what it raises ends the pass, whose rows the cache does not count.
        """
        if ids.dim() != 2 or ids.shape[1] < 1:
            raise ModelUsageError(f"ids of shape {list(ids.shape)}; expected [batch, time], time at least 1")
        if cache is None:
            return self._pass(ids, None, between)
        _check_room(ids, cache)
        pieces = [self._pass(piece, cache, between) for piece in ids.split(PIECE, dim=1)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)

    def together(
        self, texts: Sequence[tuple[Tensor, Cache]], between: Callable[[], None] = lambda: None
    ) -> tuple[Tensor, ...]:
        """One pass over the weights for several texts, each behind what a cache of its own holds.

        texts: T_i ids [1, T_i] and their cache, of which none comes twice. Returns what `hidden` gives for each,
        [1, T_i, K]. On a CPU that is the same bit for bit while the T_i together are at most `ROWS_APART`. Attention
        takes as long as in passes of their own; all products with weights take their rows together.
        """
        for ids, cache in texts:
            _check_room(ids, cache)
        times = [ids.shape[1] for ids, _ in texts]
        starts = [cache.length for _, cache in texts]
        positions = torch.cat(
            [torch.arange(start, start + time, device=self.device) for start, time in zip(starts, times, strict=True)]
        )
        layers = [
            LayerCaches(list(zip(starts, times, own, strict=True)))
            for own in zip(*(cache.layers for _, cache in texts), strict=True)
        ]
        # Where a text starts only its own attention needs to know.
        span = Span(0, sum(times), self.rotary(positions), self.rows)
        x = self._through(torch.cat([ids for ids, _ in texts], 1), span, layers, between)
        for time, (_, cache) in zip(times, texts, strict=True):
            cache.length += time
        parts: tuple[Tensor, ...] = x.split(times, 1)
        return parts

    def head(self, hidden: Tensor) -> Tensor:
        """[..., K] -> logits [..., V]: the final norm and the projection."""
        return normed_product(self.norm, self.projection, hidden)

    def new_cache(self, max_length: int, batch: int = 1) -> Cache:
        """An empty cache for `max_length` positions."""
        if max_length > self.config.context_length:
            raise ModelUsageError(
                f"a cache of {max_length} positions; the model was made for {self.config.context_length}"
            )
        kind = attention(self.config.attention)
        declared = [kind.rows(self.config, layer) for layer in range(self.config.layers)]
        return Cache(declared, max_length, batch, self.rows, self.device)

    def _pass(self, ids: Tensor, cache: Cache | None, between: Callable[[], None]) -> Tensor:
        start, time = (cache.length if cache else 0), ids.shape[1]
        positions = torch.arange(start, start + time, device=self.device)
        span = Span(start, time, self.rotary(positions), self.rows)
        x = self._through(ids, span, cache.layers if cache else [None] * len(self.blocks), between)
        if cache:
            cache.length += time
        return x

    def _through(
        self,
        ids: Tensor,
        span: Span,
        layers: Sequence[LayerCache | LayerCaches | None],
        between: Callable[[], None],
    ) -> Tensor:
        x: Tensor = self.embedding(ids)
        done = 0
        while done < len(self.blocks):
            between()
            block = self.blocks[done]
            assert isinstance(block, Block)
            x, count = block.run(x, span, layers[done:])
            done += count
        return x


def _check_room(ids: Tensor, cache: Cache) -> None:
    if cache.length + ids.shape[1] > cache.max_length:
        raise ModelUsageError(f"{ids.shape[1]} tokens after {cache.length} do not fit a cache of {cache.max_length}")
