"""A decoder and its cache as a `Scorer`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from model.decoder import Decoder
from model.engine.contracts import Interrupt, Interrupted, never
from model.engine.order import Order, log_probability, ranked
from model.engine.pace import STEADY, Pace, Steady

PIECES = {"cpu": 64}
"""By device, tokens of a prompt that are computed at a time. On two cores a block of the default model then takes about
5 ms, after which the pass can be broken off, and the prompt takes as long as in pieces of 256."""

HEAD_ROWS = 4
"""Rows whose logits are computed at once: most passes keep fewer tokens, and on two cores every three or four rows take
as long as a seventh of a pass of one row."""


class CachedScorer:
    """Scores with one cache of `capacity` positions, which is kept between prompts.

    `passes` counts the passes made so far, prefill included.
    """

    def __init__(self, decoder: Decoder, capacity: int, pace: Pace | Steady = STEADY) -> None:
        """pace: how many threads a pass takes."""
        self._decoder = decoder
        self._pace = pace
        self._cache = decoder.new_cache(capacity)
        self._ids: list[int] = []
        self._hidden: Tensor | None = None
        self.capacity = capacity
        self.piece = PIECES.get(decoder.device.type, 256)
        self.passes = 0

    @property
    def ids(self) -> Sequence[int]:
        return self._ids

    @property
    def hidden(self) -> Tensor:
        """[capacity, K], the decoder's states before its final norm; those of the cached positions count."""
        if self._hidden is None:
            raise RuntimeError("nothing has been scored yet")
        return self._hidden

    @torch.inference_mode()
    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Ranking]:
        def look_up() -> None:
            if stop := interrupt():
                raise Interrupted(stop)

        first = len(self._ids)
        try:
            with self._pace.measured():
                hidden = self._decoder.hidden(torch.tensor([ids], device=self._decoder.device), self._cache, look_up)
        except BaseException:  # `interrupt` may also raise what its caller waits for
            self._cache.truncate(first)
            raise
        if self._hidden is None:
            self._hidden = hidden.new_empty(self.capacity, hidden.shape[-1])
        self._hidden[first : first + len(ids)] = hidden[0]
        self._ids += ids
        self.passes += 1
        rows = _Rows(self._decoder, hidden[0])
        return [Ranking(rows, row, order, first + row + 1) for row in range(len(ids))]

    def truncate(self, length: int) -> None:
        self._cache.truncate(length)
        del self._ids[length:]


class _Rows:
    """The logits of one pass, [R, V], computed a few rows at a time when one is read.

    Prefill never reads any, and behind a draft that is refused nobody looks.
    """

    def __init__(self, decoder: Decoder, hidden: Tensor) -> None:
        self._decoder = decoder
        self._hidden = hidden
        self._logits: dict[int, Tensor] = {}

    def __getitem__(self, row: int) -> Tensor:
        first = row - row % HEAD_ROWS
        if first not in self._logits:
            self._logits[first] = self._decoder.head(self._hidden[first : first + HEAD_ROWS])
        return self._logits[first][row - first]


class Rows(Protocol):
    """The logits of a block."""

    def __getitem__(self, row: int) -> Tensor:
        """[V], what follows the block's token `row`, from 0."""
        ...


class Ranking:
    """What follows one token, in the order in which it is tried."""

    def __init__(self, rows: Rows, row: int, order: Order, position: int) -> None:
        self._rows = rows
        self._row = row
        self._order = order
        self._position = position

    @torch.inference_mode()
    def __iter__(self) -> Iterator[int]:
        yield from ranked(self._rows[self._row], self._order, self._position)

    @torch.inference_mode()
    def log_probability(self, token: int) -> float:
        return log_probability(self._rows[self._row], token)
