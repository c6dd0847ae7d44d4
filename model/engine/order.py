"""Greedy and sampled choice as one thing: the order in which tokens are tried until one is viable.

Sampling uses the Gumbel-max trick (Maddison et al. 2014; Kool et al. 2019, "Stochastic Beams", section 2.3): adding
independent Gumbel noise to log-probabilities and sorting gives the order of sampling without replacement. The first
viable token of that order is therefore distributed as the model's distribution restricted to the viable tokens. The
noise depends on the seed and the position alone, so a block decodes to what single tokens decode to.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

FIRST_LOOK = 16
"""Ids ranked at first: the best token is nearly always viable, so the vocabulary is rarely sorted."""


class Order(Protocol):
    """Turns scores into an order."""

    def keys(self, logits: Tensor, position: int) -> Tensor:
        """Sort keys for the token at `position`, [V] from [V]: the largest is tried first."""
        ...


class Greedy:
    """By score."""

    def keys(self, logits: Tensor, position: int) -> Tensor:
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

    def keys(self, logits: Tensor, position: int) -> Tensor:
        scaled = logits.float() / self.temperature
        keys = scaled + self._noise(scaled.numel(), position, scaled.device)
        if self.top_p < 1:
            outside = ~self._nucleus(scaled)
            keys[outside] = scaled[outside] - scaled.max() + keys[~outside].min() - 1
        return keys

    def _nucleus(self, scaled: Tensor) -> Tensor:
        """Which tokens are in the nucleus, [V] bool. The token that crosses the mass belongs to it."""
        probabilities, order = torch.softmax(scaled, dim=-1).sort(descending=True, stable=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        inside = torch.zeros_like(scaled, dtype=torch.bool)
        inside[order[before < self.top_p]] = True
        return inside

    def _noise(self, count: int, position: int, device: torch.device) -> Tensor:
        """Standard Gumbel noise, [count], the same on every device up to rounding.

        Made by a hash of the id, keyed by seed and position, where it is needed: PyTorch's generators differ by device.
        """
        digest = hashlib.blake2b(f"{self.seed} {position}".encode(), digest_size=8).digest()
        words = torch.arange(count, dtype=torch.int32, device=device)
        for key in struct.unpack("<2i", digest):
            words = _mixed(words.add_(key))
        # 31 bits, between 0 and 1; what is rare in sampling is close to 0, where a float has bits to spare.
        share = words.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_(2**-31).clamp_max_(1 - 2**-24)
        return share.neg_().log1p_().neg_().log_().neg_()


def _mixed(words: Tensor) -> Tensor:
    """Each word int32, in place, so that any bit changes half of all bits.

    Source: the last step of MurmurHash3 for 32 bits (Appleby, 2011; `fmix32`).
    """
    for shift, factor in ((16, -0x7A143595), (13, -0x3D4D51CB), (16, 1)):
        words ^= (words >> shift) & ((1 << 32 - shift) - 1)  # PyTorch keeps the sign
        words *= factor
    return words


def ranked(logits: Tensor, order: Order, position: int) -> Iterator[int]:
    """The ids of `logits` [V] in the order in which they are tried; the lower id first among equals."""
    keys = order.keys(logits, position)
    top = keys.topk(min(FIRST_LOOK + 1, keys.numel()))
    values = top.values.tolist()
    # topk leaves open which of equals comes first, so only what is above all the rest is taken from it.
    clear = next((i for i in range(len(values) - 1) if values[i] == values[i + 1]), len(values) - 1)
    yield from top.indices[:clear].tolist()
    yield from keys.sort(descending=True, stable=True).indices[clear:].tolist()


def log_probability(logits: Tensor, token: int) -> float:
    """Natural, of one id under `logits` [V] at temperature 1; in fp32."""
    scores = logits.float()
    return float(scores[token] - scores.logsumexp(-1))
