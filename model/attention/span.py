"""The positions that one pass computes, and what all its layers share about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.cache import LayerCache, LayerCaches


class Span:
    """Positions start … start + T - 1, seen by queries at the same places and keys from 0 on.

    `rotation`: cosines and signed sines, each [T, rotary width]. `dtype`: what scores and cached rows are kept in.
    Masks are made on first use and then shared by the layers of the pass.
    """

    def __init__(self, start: int, time: int, rotation: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
        self.start = start
        self.time = time
        self.rotation = rotation
        self.dtype = dtype
        self._masks: dict[int, Tensor] = {}

    def causal(self, repeats: int) -> Tensor:
        """Added to scores [repeats·T, start + T]: 0 where a query may look, else -inf; the T rows, repeated."""
        if repeats not in self._masks:
            shape = (self.time, self.start + self.time)
            mask = torch.full(shape, -torch.inf, dtype=self.dtype, device=self.rotation[0].device)
            self._masks[repeats] = mask.triu(self.start + 1).repeat(repeats, 1)
        return self._masks[repeats]


Attend = Callable[[tuple[Tensor, ...], tuple[Tensor, ...], Span], Tensor]
"""Queries [B, H, T, ·] each, all that is seen [B, G, S, ·] each, and where the queries are -> [B, H, T, E]."""


class Trails(LayerCache):
    """Texts that go on from every position at once, each by itself: what a module that is run on sees while it learns.

    The first pass is the text's own, causal. Pass n behind it holds, at row t, what stands n positions behind t if the
    text goes on there; it sees the text's rows 0 … t, and of passes 1 … n row t alone. Source: "training-time test",
    EAGLE-3 (Li et al., 2025), section 3.2. Of queries, keys and values of grouped-query attention.
    """

    def __init__(self) -> None:
        super().__init__(())
        self._passes: list[tuple[Tensor, ...]] = []

    def attend(self, queries: tuple[Tensor, ...], new: tuple[Tensor, ...], span: Span, attend: Attend) -> Tensor:
        """queries [B, H, T, D], new keys and values [B, G, T, D] -> [B, H, T, D]; T does not grow from pass to pass."""
        self._passes.append(new)
        if len(self._passes) == 1:
            return attend(queries, new, span)
        (query,) = queries
        time, repeats = span.time, query.shape[1] // new[0].shape[1]
        keys, values = (
            torch.cat([rows[:, :, :time] for rows in kind], 2).repeat_interleave(repeats, 1)
            for kind in zip(*self._passes, strict=True)
        )
        text = torch.ones(time, time, dtype=torch.bool, device=query.device).tril()
        own = torch.eye(time, dtype=torch.bool, device=query.device).repeat(1, len(self._passes) - 1)
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=torch.cat([text, own], 1))


def attended(
    queries: tuple[Tensor, ...],
    new: tuple[Tensor, ...],
    span: Span,
    cache: LayerCache | LayerCaches | None,
    attend: Attend,
) -> Tensor:
    """`attend` with all rows that are seen, cached ones and `new` [B, G, T, ·] each, which the cache takes in.

    Of several texts each looks at its own rows and at nothing else.
    """
    if cache is None:
        return attend(queries, new, span)
    if isinstance(cache, Trails):
        return cache.attend(queries, new, span, attend)
    if isinstance(cache, LayerCache):
        return attend(queries, cache.extend(span.start, *new), span)
    found, first = [], 0
    for start, time, layer in cache.texts:
        part = slice(first, first + time)
        at = Span(start, time, span.rotation, span.dtype)
        own = tuple(query[:, :, part] for query in queries)
        found.append(attend(own, layer.extend(start, *(rows[:, :, part] for rows in new)), at))
        first += time
    return torch.cat(found, 2)


def apart(queries: Sequence[Tensor], keys: Sequence[Tensor], span: Span) -> Iterator[tuple[Any, ...]]:
    """One query at a time, with the keys that it sees, so that none depends on those beside it.

    queries: [B, H, T, ·] each; keys: [B, G, S, ·] each. Yields the same with T of 1, and the span of that query.
    """
    for t in range(span.time):
        seen = span.start + t + 1
        yield (
            *(part[:, :, t : t + 1].clone() for part in queries),
            *(part[:, :, :seen] for part in keys),
            Span(seen - 1, 1, span.rotation, span.dtype),
        )
