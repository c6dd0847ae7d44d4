"""A model small enough to be obviously right: its scores are a fixed function of the last few tokens."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import torch

from model.engine.contracts import Draft, Interrupt, never
from model.engine.order import Order, ranked


class ToyScorer:
    """Scores over `vocabulary` ids that depend on the last two tokens and a seed. Counts what it is asked to do."""

    def __init__(self, vocabulary: int, seed: int, capacity: int = 10_000) -> None:
        self.vocabulary = vocabulary
        self.seed = seed
        self.capacity = capacity
        self.piece = 256
        self.ids: list[int] = []
        self.passes = 0
        self.computed = 0

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """[V], what follows `ids`."""
        generator = torch.Generator().manual_seed(hash((self.seed, *ids[-2:])) % 2**31)
        return torch.randn(self.vocabulary, generator=generator)

    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Iterable[int]]:
        rows: list[Iterable[int]] = []
        for token in ids:
            self.ids.append(token)
            rows.append(ranked(self.logits(self.ids), order, len(self.ids)))
        assert len(self.ids) <= self.capacity, "the loop overfilled the cache"
        self.passes += 1
        self.computed += len(ids)
        return rows

    def truncate(self, length: int) -> None:
        assert length <= len(self.ids), "the loop truncated to more than there is"
        del self.ids[length:]


class RandomDraft:
    """Proposes anything."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        self.vocabulary = vocabulary
        self.random = random.Random(seed)

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        assert width >= 0, "the loop asked for a negative width"
        return Draft(tuple(self.random.randrange(self.vocabulary) for _ in range(width)), "random")


class PerfectDraft:
    """Proposes what a plain run gave."""

    def __init__(self, truth: Sequence[int]) -> None:
        self.truth = list(truth)

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        return Draft(tuple(self.truth[len(ids) : len(ids) + width]), "perfect")


class Brackets:
    """Accepts where odd ids open and even ids close, at most `deepest` open. States are depths."""

    def __init__(self, deepest: int = 5) -> None:
        self.deepest = deepest

    def accept_block(self, state: int, ids: Sequence[int]) -> tuple[int, int]:
        for count, token in enumerate(ids):
            after = state + (1 if token % 2 else -1)
            if not 0 <= after <= self.deepest:
                return count, state
            state = after
        return len(ids), state

    def complete(self, state: int) -> bool:
        return state == 0
