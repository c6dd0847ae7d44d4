"""Blocks that begin the next one on the device, before the host has asked for it.

A block ends in the block that comes next, as far as the device can tell, and that one is started at once: the GPU
computes while the host judges. Where the host then asks for exactly that block, or its beginning, it is there already;
where it asks for another, what was computed is dropped: it only wrote rows that the other block writes again.

Letters: R rows of a block, K width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.gpu.record import Pool, Recorded


class Results(NamedTuple):
    """What a drafted block leaves: in two sets of memory, used in turn."""

    hidden: Tensor  # fp32 [R, K]
    logits: Tensor  # fp32 [R, V]
    ids: Tensor  # int32 [R, n], in memory that the host reads
    next: Tensor  # int32 [2 + R …], start, count, tokens and what else is told, in memory that the host reads


class Flight:
    """A drafted block under way. ids: its tokens; none where only the device knows them yet."""

    def __init__(self, results: Results, done: Any, turn: int, start: int, ids: Sequence[int]) -> None:
        self.results = results
        self.turn = turn
        self.start = start
        self.ids = list(ids)
        self._done = done

    def wait(self) -> None:
        """Until the host can read the results."""
        if self._done:
            self._done.synchronize()

    @cached_property
    def told(self) -> list[int]:
        """`Results.next`"""
        self.wait()
        told: list[int] = self.results.next.tolist()
        return told

    @cached_property
    def next(self) -> list[int]:
        """Start of the next block, and its tokens."""
        start, count, *ids = self.told
        return [start, *ids[:count]]


class BlocksAhead(ABC):
    """Blocks of one scorer, of up to `tokens` tokens, filled up with zeros."""

    behind = 0
    """Positions before the block that stand behind its tokens, the nearest first."""

    def __init__(self, tokens: int, device: torch.device, pool: Pool | None) -> None:
        self.hits = 0
        """Blocks that were under way when the host asked for them."""
        self.tokens = tokens
        self._on_gpu = device.type == "cuda"
        self._given = torch.zeros(2 + tokens + self.behind, dtype=torch.int32, pin_memory=self._on_gpu)
        self._numbers = self._given.numpy()
        self._place = torch.zeros_like(self._given, device=device)
        self._recorded = [Recorded(partial(self._block, turn), pool) for turn in range(2)]
        self._done = [torch.cuda.Event() if self._on_gpu else None for _ in range(2)]
        self._last: Flight | None = None
        self._ahead: Flight | None = None

    @abstractmethod
    def _block(self, turn: int) -> Results:
        """Compute the block at `_place`, int32 [2 + R + behind], and leave the next one there.

        It is start, count, tokens, and positions before it."""

    def _note(self, flight: Flight) -> None:  # noqa: B027 — nothing to remember
        """What a block that is over leaves to be remembered."""

    def _follow(self, held: Sequence[int], ids: Sequence[int]) -> None:  # noqa: B027 — nothing to catch up with
        """What goes before a block `ids` behind `held`."""

    def warm(self, start: int = 0) -> None:
        """Record both. Recording runs a block twice, and a block is not the same twice: before the first pass."""
        for turn in range(2):
            self._give(start, [0])
            self._launch(turn, start, [0]).wait()

    def run(self, held: Sequence[int], ids: Sequence[int], go_on: bool) -> Flight:
        """The block `ids` behind `held`. go_on: start the block that follows from it as well."""
        flight = self._under_way(len(held), ids)
        if flight is None:
            self._drop()
            self._follow(held, ids)
            turn = 1 - self._last.turn if self._last else 0
            self._give(len(held), ids)
            flight = self._launch(turn, len(held), ids)
        self._last, self._ahead = flight, None
        if go_on:
            self._ahead = self._launch(1 - flight.turn, -1, ())
        return flight

    def is_under_way(self, start: int, ids: Sequence[int]) -> bool:
        """Was the block `ids`, or one that begins so, started when the last one was asked for?"""
        return self._ahead is not None and self.is_predicted(start, ids)

    def is_predicted(self, start: int, ids: Sequence[int]) -> bool:
        """Is the block `ids` what the last one says comes next, or does that begin so?"""
        found = self.predicted()
        return found is not None and found[0] == start and found[1][: len(ids)] == list(ids)

    def stale(self) -> int | None:
        """The position from which on rows belong to a block that nobody asked for; None if there is none."""
        return None if self._last is None or self._ahead is None else self._last.next[0]

    def leave(self) -> None:
        """The next pass is not one of these."""
        self._drop()
        self._last = None

    def predicted(self) -> tuple[int, list[int]] | None:
        """Where the next block starts, and its tokens; None where the last pass was not one of these."""
        if self._last is None:
            return None
        start, *ids = self._last.next
        return start, ids

    def _under_way(self, start: int, ids: Sequence[int]) -> Flight | None:
        if self._ahead is None or self._last is None or not self.is_under_way(start, ids):
            return None
        self._note(self._last)
        self.hits += 1
        self._ahead.start, *self._ahead.ids = self._last.next
        return self._ahead

    def _drop(self) -> None:
        """Whatever is under way is not what was asked for."""
        if self._last is not None:
            self._note(self._last)
        if self._ahead is not None:
            self._ahead.wait()
        self._ahead = None

    def _give(self, start: int, ids: Sequence[int]) -> None:
        filled = [start, len(ids), *ids, *[0] * (self.tokens - len(ids))]
        self._numbers[:] = filled + [max(start - 1 - i, 0) for i in range(self.behind)]
        self._place.copy_(self._given, non_blocking=True)

    def _launch(self, turn: int, start: int, ids: Sequence[int]) -> Flight:
        results = self._recorded[turn]()
        done = self._done[turn]
        if done:
            done.record()
        return Flight(results, done, turn, start, ids)


class SingleTokens(BlocksAhead):
    """Token by token, each the best one behind the last.

    compute: block int32 [3] on the device, int32 [best + 3] for the host -> hidden and logits of its token, rows
    written; the block becomes the next one, and the host has the best ids and that block.
    best: ids of a token that come to the host.
    """

    def __init__(
        self,
        compute: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        best: int,
        device: torch.device,
        pool: Pool | None,
    ) -> None:
        super().__init__(1, device, pool)
        self._compute = compute
        self._said = [torch.zeros(best + 3, dtype=torch.int32, pin_memory=self._on_gpu) for _ in range(2)]

    def _block(self, turn: int) -> Results:
        said = self._said[turn]
        return Results(*self._compute(self._place, said), said[None, :-3], said[-3:])
