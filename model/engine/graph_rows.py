"""What a recorded pass leaves of its rows, and the order in which ids are tried behind each.

Letters: R rows of a pass, K width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from model.engine.order import Greedy, Looks, Odds, Order, log_probability, ranked
from model.errors import ModelUsageError


class Found(NamedTuple):
    """What a recorded block leaves on the device until the next pass."""

    hidden: Tensor  # fp32 [R, K]
    logits: Tensor  # fp32 [R, V]
    ids: Tensor  # int32 [R, FIRST_IDS], in memory that the host reads


class Asked(NamedTuple):
    """How the rows of a pass are ranked."""

    order: Order
    positions: Sequence[int]
    """Of the tokens that are ranked."""


class Passes(Protocol):
    """Who makes the passes."""

    passes: int
    """So far."""


class BlockRows:
    """The rows of a recorded block."""

    number = 0
    """The pass that they came from."""

    def __init__(self, scorer: Passes, found: Found, wait: Callable[[], None], asked: Asked) -> None:
        self.scorer = scorer
        self._found = found
        self._wait = wait
        self._asked = asked

    @cached_property
    def _best(self) -> list[list[int]]:
        """The first ids of each row by score."""
        self._wait()
        best: list[list[int]] = self._found.ids.tolist()
        return best

    @cached_property
    def _looks(self) -> Looks:
        """Of all rows at once: what is sampled is made of a few small kernels, and waited for."""
        return Looks(self._logits, self._asked.order, self._asked.positions)

    @cached_property
    def _odds(self) -> Odds:
        return Odds(self._logits)

    @property
    def _logits(self) -> Tensor:
        """Of the rows that were asked for."""
        return self._found.logits[: len(self._asked.positions)]

    def logits(self, row: int) -> Tensor:
        """[V]"""
        return self._found.logits[row]

    def ids(self, row: int) -> Iterator[int]:
        """See `Ranking`."""
        if not isinstance(self._asked.order, Greedy):
            yield from self._looks.ids(row)
            return
        best = self._best[row]
        yield from best
        for place, token in enumerate(ranked(self.logits(row), self._asked.order, self._asked.positions[row])):
            if place >= len(best):
                yield token

    def log_probability(self, row: int, token: int) -> float:
        """Natural."""
        return self._odds.log_probability(row, token)


class PromptRows:
    """The rows of a prefill, whose logits are computed when somebody reads them."""

    number = 0

    def __init__(self, scorer: Passes, hidden: Tensor, logits: Callable[[Tensor], Tensor], asked: Asked) -> None:
        """logits: of hidden rows, [R, K] -> [R, V]"""
        self.scorer = scorer
        self._hidden = hidden
        self._head = logits
        self._asked = asked

    def logits(self, row: int) -> Tensor:
        """[V]"""
        return self._head(self._hidden[row : row + 1])[0]

    def ids(self, row: int) -> Iterator[int]:
        """See `Ranking`."""
        yield from ranked(self.logits(row), self._asked.order, self._asked.positions[row])

    def log_probability(self, row: int, token: int) -> float:
        """Natural."""
        return log_probability(self.logits(row), token)


class Ranking:
    """What follows one token, in the order in which it is tried."""

    def __init__(self, rows: BlockRows | PromptRows, row: int) -> None:
        self._rows = rows
        self._row = row

    @torch.inference_mode()
    def __iter__(self) -> Iterator[int]:
        self._check_kept()
        yield from self._rows.ids(self._row)

    @torch.inference_mode()
    def log_probability(self, token: int) -> float:
        self._check_kept()
        return self._rows.log_probability(self._row, token)

    def _check_kept(self) -> None:
        if self._rows.number != self._rows.scorer.passes:
            raise ModelUsageError("a ranking is read after the next pass has overwritten it")
