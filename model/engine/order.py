"""Greedy and sampled choice as one thing: the order in which tokens are tried until one is viable.

Sampling uses the Gumbel-max trick (Maddison et al. 2014; Kool et al. 2019, "Stochastic Beams", section 2.3): adding
independent Gumbel noise to log-probabilities and sorting gives the order of sampling without replacement. The first
viable token of that order is therefore distributed as the model's distribution restricted to the viable tokens. The
noise depends on the seed and the position alone, so a block decodes to what single tokens decode to.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

import kernels

FIRST_LOOK = 16
"""Ids ranked at first: the best token is nearly always viable, so the vocabulary is rarely sorted."""


class Order(Protocol):
    """Turns scores into an order."""

    def keys(self, logits: Tensor, positions: Sequence[int]) -> Tensor:
        """Sort keys for the tokens at R positions, [R, V] from [R, V]: the largest is tried first."""
        ...


class Greedy:
    """By score."""

    def keys(self, logits: Tensor, positions: Sequence[int]) -> Tensor:
        return logits


@dataclass(frozen=True)
class Sampled:
    """By chance, as the scores weigh it.

    `temperature` > 0. `top_p` in (0, 1] is the nucleus (Holtzman et al. 2020, section 3.1): the smallest set of tokens
    that holds this mass of the model's distribution. The others come last, by score, so that there is always a next.
    """

    temperature: float
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")

    def keys(self, logits: Tensor, positions: Sequence[int]) -> Tensor:
        logits = logits.float()
        drawn_by = [self._drawn_by(position) for position in positions]
        keys = kernels.perturb(logits, torch.tensor(drawn_by, dtype=torch.int32).to(logits.device), self.temperature)
        if self.top_p == 1:
            return keys
        scaled = logits / self.temperature
        inside = self._nucleus(scaled)
        lowest = keys.masked_fill(~inside, torch.inf).amin(-1, keepdim=True)
        return torch.where(inside, keys, scaled - scaled.amax(-1, keepdim=True) + lowest - 1)

    def _nucleus(self, scaled: Tensor) -> Tensor:
        """Which tokens are in the nucleus, [R, V] bool. The token that crosses the mass belongs to it."""
        probabilities, order = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        return torch.zeros_like(scaled, dtype=torch.bool).scatter_(-1, order, before < self.top_p)

    def _drawn_by(self, position: int) -> tuple[int, ...]:
        """What the noise at a position is drawn by. PyTorch's own generators differ by device."""
        digest = hashlib.blake2b(f"{self.seed} {position}".encode(), digest_size=8).digest()
        return struct.unpack("<2i", digest)


class Looks:
    """The orders of a block's rows, whose first ids are looked up together."""

    def __init__(self, logits: Tensor, order: Order, positions: Sequence[int]) -> None:
        """logits: [R, V]"""
        self._keys = order.keys(logits, positions)
        top = self._keys.topk(min(FIRST_LOOK + 1, self._keys.shape[1]))
        self._values: list[list[float]] = top.values.tolist()
        self._ids: list[list[int]] = top.indices.tolist()

    def ids(self, row: int) -> Iterator[int]:
        """All ids in the order in which they are tried; the lower id first among equals."""
        values = self._values[row]
        # topk leaves open which of equals comes first, so only what is above all the rest is taken from it.
        clear = next((i for i in range(len(values) - 1) if values[i] == values[i + 1]), len(values) - 1)
        yield from self._ids[row][:clear]
        yield from self._keys[row].sort(descending=True, stable=True).indices[clear:].tolist()


def ranked(logits: Tensor, order: Order, position: int) -> Iterator[int]:
    """The ids of one row, [V], in the order in which they are tried; the lower id first among equals."""
    yield from Looks(logits[None], order, [position]).ids(0)


class Odds:
    """How probable ids are under the logits of a block's rows, [R, V], at temperature 1; in fp32."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    @cached_property
    def _totals(self) -> list[float]:
        totals: list[float] = self._logits.float().logsumexp(-1).tolist()
        return totals

    def log_probability(self, row: int, token: int) -> float:
        """Natural."""
        return float(self._logits[row, token]) - self._totals[row]


def log_probability(logits: Tensor, token: int) -> float:
    """Natural, of one id under `logits` [V]: see `Odds`."""
    return Odds(logits[None]).log_probability(0, token)
