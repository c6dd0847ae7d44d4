"""Which experts see a token, and how much each of them counts.

Letters: M tokens, K width, E experts, S slots of a token (experts that it may have).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Experts
from model.errors import ModelUsageError
from model.layers import ROWS_APART, linear


class Choice(NamedTuple):
    """The experts of every token. A slot that is not used has the id E and counts nothing."""

    ids: Tensor  # int64 [M, S]
    gates: Tensor  # fp32 [M, S]


SCORINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softmax": lambda logits: logits.softmax(-1),
}


class Router(nn.Module):
    """Scores every expert and chooses, in fp32.

    The best `chosen` of the `chosen_groups` best groups. With a threshold, the fewest of them whose share of all
    scores reaches it; a token whose best ones do not reach it falls back on all of them, or on every expert there is.

    The load is kept even without an auxiliary loss: a bias is added to the scores for choosing, not to the gates, and
    `balance` moves it against the load since it was last called. Source: DeepSeek-V3 Technical Report, section 2.1.2.
    `load` [E] counts the tokens that each expert was given, `tokens` [1] those that came.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, experts: Experts, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.experts = experts
        self.weight = nn.Parameter(torch.empty(experts.count, width, dtype=dtype), requires_grad=False)
        if experts.balanced:
            self.bias = nn.Parameter(torch.zeros(experts.count, dtype=torch.float32), requires_grad=False)
        self.counted = Counts(experts.count)
        self.set_strategy(experts.threshold, experts.fallback)

    def set_strategy(self, threshold: float, fallback: str) -> None:
        """The threshold of router mass, 0 … 1, where 0 always takes `chosen` experts; and "topk" or "dense".

        Training is for 0: on a GPU, slots that are not used have no defined gradients. A scorer on a GPU keeps
        what holds when it is made.
        """
        if not 0 <= threshold <= 1:
            raise ModelUsageError(f"a routing threshold of {threshold}; expected 0 to 1")
        if fallback not in FALLBACKS:
            raise ModelUsageError(f"no routing fallback is called '{fallback}' (known: {', '.join(FALLBACKS)})")
        self.strategy = (threshold, fallback)
        self._limit = _Limit(threshold, FALLBACKS[fallback]) if threshold else _as_many_as_chosen

    def forward(self, x: Tensor) -> Choice:
        """[M, K] -> the choice for each row"""
        logits = linear(x.float(), self.weight.float(), None)
        score = SCORINGS[self.experts.scoring]
        # An exponential's last bit depends on how many numbers there are: few rows are scored one by one.
        few = 1 < len(x) <= ROWS_APART and x.device.type == "cpu"
        scores = torch.cat([score(row) for row in logits.split(1)]) if few else score(logits)
        ids = self._best(scores + self.bias if self.experts.balanced else scores)
        choice = self._limit(self.experts, scores, ids)
        self.counted.add(choice.ids.detach())
        return choice

    @torch.no_grad()
    def balance(self, rate: float) -> None:
        """Raise the bias of experts that had less than their share since the last call by `rate`; lower the others'."""
        if not self.experts.balanced:
            raise ModelUsageError("this router has no bias to balance its load with")
        load = self.counted.load.float()
        self.bias.add_((load.mean() - load).sign(), alpha=rate)
        self.counted.reset()

    def _best(self, scores: Tensor) -> Tensor:
        """The best `chosen` experts [M, chosen] by `scores` [M, E], best first."""
        experts = self.experts
        if experts.chosen_groups < experts.groups:
            grouped = scores.view(len(scores), experts.groups, -1)
            worth = grouped.topk({"best": 1, "best-two": 2}[experts.group_score], -1).values.sum(-1)
            kept = worth.topk(experts.chosen_groups, -1).indices
            outside = torch.ones_like(worth, dtype=torch.bool).scatter_(-1, kept, False)
            scores = grouped.masked_fill(outside.unsqueeze(-1), -torch.inf).flatten(-2)
        return scores.topk(experts.chosen, -1).indices


def _gates(experts: Experts, scores: Tensor) -> Tensor:
    """Scores of the experts in use, 0 in other slots -> what their results are multiplied with."""
    if experts.normalised:
        # The order of a plain sum would depend on the number of rows.
        scores = scores / (scores.cumsum(-1)[:, -1:] + 1e-20)
    return scores * experts.scale


def _as_many_as_chosen(experts: Experts, scores: Tensor, ids: Tensor) -> Choice:
    return Choice(ids, _gates(experts, scores.gather(-1, ids)))


class _Limit(NamedTuple):
    """The fewest experts that have `threshold` of the mass; else the fallback."""

    threshold: float
    fallback: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

    def __call__(self, experts: Experts, scores: Tensor, ids: Tensor) -> Choice:
        found = scores.gather(-1, ids)
        # The order is by score, where choosing went by score and bias.
        found, order = found.sort(stable=True, dim=-1, descending=True)
        ids = ids.gather(-1, order)
        reached = found.cumsum(-1) / scores.cumsum(-1)[:, -1:]
        needed = F.pad(reached[:, :-1], (1, 0)) < self.threshold  # those in front do not reach it yet
        enough = reached[:, -1:] >= self.threshold
        few = ids.masked_fill(~needed, experts.count)
        ids, found = self.fallback(scores, few.where(enough, ids), enough)
        return Choice(ids, _gates(experts, found))


def _topk(scores: Tensor, ids: Tensor, enough: Tensor) -> tuple[Tensor, Tensor]:
    used = ids < scores.shape[-1]
    return ids, scores.gather(-1, ids.where(used, 0)).where(used, 0.0)


def _dense(scores: Tensor, ids: Tensor, enough: Tensor) -> tuple[Tensor, Tensor]:
    """Every expert where the chosen ones are not enough: E slots, one for each expert."""
    count = scores.shape[-1]
    some = torch.zeros(len(scores), count + 1, dtype=torch.bool, device=scores.device).scatter(-1, ids, True)
    used = some[:, :count] | ~enough
    every = torch.arange(count, device=scores.device).expand_as(scores)
    return every.where(used, count), scores.where(used, 0.0)


FALLBACKS = {"topk": _topk, "dense": _dense}


WAITING = 64
"""Passes on a processor that are counted together."""


class Counts(nn.Module):
    """How many tokens came, and how many of them each expert was given. Not part of a checkpoint."""

    slots: Tensor
    came: Tensor
    one: Tensor

    def __init__(self, experts: int) -> None:
        super().__init__()
        # Never on the meta device, where a loader builds its modules, and never for inference alone.
        with torch.inference_mode(False):
            self.register_buffer("slots", torch.zeros(experts + 1, dtype=torch.int64, device="cpu"), persistent=False)
            self.register_buffer("came", torch.zeros(1, dtype=torch.int64, device="cpu"), persistent=False)
            self.register_buffer("one", torch.ones(1, dtype=torch.int64, device="cpu"), persistent=False)

        self._waiting: list[Tensor] = []

    @property
    def load(self) -> Tensor:
        """[E]"""
        self._settle()
        return self.slots[:-1]

    @property
    def tokens(self) -> Tensor:
        """[1]"""
        self._settle()
        return self.came

    def add(self, ids: Tensor) -> None:
        """ids [M, S], where E stands for none."""
        if ids.device.type != "cpu":
            self._count(ids)
            return
        # For one row, counting takes as long as choosing.
        self._waiting.append(ids)
        if len(self._waiting) >= WAITING:
            self._settle()

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ids in waiting:
            self._count(ids)

    def _count(self, ids: Tensor) -> None:
        self.slots.scatter_add_(0, ids.flatten(), self.one.expand(ids.numel()))
        self.came.add_(len(ids))

    def reset(self) -> None:
        """Begin again."""
        self._waiting = []
        self.slots.zero_()
        self.came.zero_()
