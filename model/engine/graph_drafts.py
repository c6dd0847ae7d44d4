"""Blocks that draft the next one on the device, and run it before the host has asked for it.

A drafted block ends in the block that comes next: the token behind what the decoder agreed with, and two drafts. That
block is started at once, so that the GPU computes while the host validates. Where the host then asks for exactly that
block, or its beginning, it is there already; where it asks for another, as after a refused token, what was computed is
dropped: it only wrote rows that the other block writes again.

Letters: R rows of a block, K width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from model.engine.contracts import Draft
from model.engine.drafters import NOTHING, common_prefix
from model.gpu.drafts import BACK, DEPTH, DraftPass
from model.gpu.record import Recorded
from model.mtp_rows import MTPRows

LEAST = 1 + DEPTH
"""Tokens of a block that drafts: the pending one, and a draft of each module."""

PIECE = 2048
"""Positions of a long prompt that the modules follow at a time."""


class Results(NamedTuple):
    """What a drafted block leaves: in two sets of memory, used in turn."""

    hidden: Tensor  # fp32 [R, K]
    logits: Tensor  # fp32 [R, V]
    ids: Tensor  # int32 [R, n], in memory that the host reads
    next: Tensor  # int32 [2 + R], in memory that the host reads


class Flight:
    """A drafted block under way. ids: its tokens; none where only the device knows them yet."""

    def __init__(self, results: Results, done: Any, turn: int, start: int, ids: Sequence[int]) -> None:
        self.results = results
        self.turn = turn
        self.start = start
        self.ids = list(ids)
        self._done = done
        self._next: list[int] | None = None

    def wait(self) -> None:
        """Until the host can read the results."""
        if self._done:
            self._done.synchronize()

    @property
    def next(self) -> list[int]:
        """Start of the next block, and its tokens."""
        if self._next is None:
            self.wait()
            start, _, *ids = self.results.next.tolist()
            self._next = [start, *ids]
        return self._next


class DraftedBlocks:
    """The blocks of one scorer that draft, of `tokens` tokens, LEAST or more.

    compute: block int32 [2 + R] on the device -> hidden, logits and best ids of its tokens, rows written.
    streams: fp32 [S + 1, K], the decoder's states of all positions. best: ids of a token that come to the host.
    """

    def __init__(
        self,
        drafts: DraftPass,
        rows: MTPRows,
        compute: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
        streams: Tensor,
        best: int,
        pool: Any,
        tokens: int = LEAST,
    ) -> None:
        self.tokens = tokens
        self.hits = 0
        """Blocks that were under way when the host asked for them."""
        self._drafts = drafts
        self._rows = rows
        self._compute = compute
        self._streams = streams
        device = streams.device
        self._on_gpu = device.type == "cuda"
        self._given = torch.zeros(2 + tokens, dtype=torch.int32, pin_memory=self._on_gpu)
        self._place = torch.zeros_like(self._given, device=device)
        # The host reads `best` and `next`; the copies are part of the recording.
        self._best = [torch.zeros(tokens, best, dtype=torch.int32, pin_memory=self._on_gpu) for _ in range(2)]
        self._next = [torch.zeros_like(self._given, pin_memory=self._on_gpu) for _ in range(2)]
        self._recorded = [Recorded(partial(self._block, turn), device, pool) for turn in range(2)]
        self._done = [torch.cuda.Event() if self._on_gpu else None for _ in range(2)]
        self._last: Flight | None = None
        self._ahead: Flight | None = None
        # Tokens by position that the modules' rows were computed from.
        self._followed: list[int] = []

    def warm(self) -> None:
        """Record both. Recording runs a block twice, and a block is not the same twice: before the first pass."""
        for turn in range(2):
            self._give(BACK, [0])
            self._launch(turn, BACK, [0]).wait()

    @torch.inference_mode()
    def time(self, count: int = 50) -> float:
        """Microseconds of a block on the GPU, the mean of `count` started one after the other."""
        self.leave()
        self._give(512 % self._streams.shape[0], [0])
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for turn in range(count):
            self._recorded[turn % 2]()
        end.record()
        end.synchronize()
        self._followed = []
        return 1000 * float(begin.elapsed_time(end)) / count

    def takes(self, start: int, count: int) -> bool:
        """Can a block of `count` tokens be drafted from here? It is computed whole, and has rows for all of it."""
        return start >= BACK and count <= self.tokens and start + self.tokens < len(self._streams)

    def has_followed(self, held: Sequence[int]) -> bool:
        """Are the modules' rows there for all of `held` that a block does not compute anew?"""
        if self._last is not None:
            self._note(self._last)
        return self._followed[: len(held)] == list(held)

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
        if self._ahead is None or self._last is None:
            return False
        begin, *following = self._last.next
        return begin == start and following[: len(ids)] == list(ids)

    def stale(self) -> int | None:
        """The position from which on rows belong to a block that nobody asked for; None if there is none."""
        return None if self._last is None or self._ahead is None else self._last.next[0]

    def leave(self) -> None:
        """The next pass is not one of these."""
        self._drop()
        self._last = None

    def predicted(self) -> tuple[int, list[int]] | None:
        """Where the next block starts, and its tokens; None where the last pass drafted nothing."""
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

    def _note(self, flight: Flight) -> None:
        """Remember which tokens the modules have followed."""
        start, pending = flight.next[:2]
        del self._followed[flight.start :]
        self._followed += [*flight.ids[: start - flight.start], pending]

    def _follow(self, held: Sequence[int], ids: Sequence[int]) -> None:
        """The modules' rows of `held` that a block does not compute anew."""
        if self.has_followed(held):
            return
        end = len(held)
        known = [*held, *ids]
        same = common_prefix(self._followed, known)
        states = self._drafts.states
        for depth, below in enumerate((self._streams, states)):
            for begin in range(max(same - depth - 1, 0), end - depth - 1, PIECE):
                rows = slice(begin, min(begin + PIECE, end - depth - 1))
                tokens = known[begin + depth + 1 : rows.stop + depth + 1]
                after = self._rows.advance(depth, below[rows], tokens, begin)
                if depth == 0:
                    states[rows] = after
        self._followed = known[: end + 1]

    def _give(self, start: int, ids: Sequence[int]) -> None:
        filled = [start, len(ids), *ids, *[0] * (self.tokens - len(ids))]
        self._given.copy_(torch.tensor(filled, dtype=torch.int32))
        self._place.copy_(self._given, non_blocking=True)

    def _launch(self, turn: int, start: int, ids: Sequence[int]) -> Flight:
        results = self._recorded[turn]()
        done = self._done[turn]
        if done:
            done.record()
        return Flight(results, done, turn, start, ids)

    def _block(self, turn: int) -> Results:
        hidden, logits, best = self._compute(self._place)
        following = self._drafts.next_block(best, self._place, self._streams)
        self._place.copy_(following)
        read = self._best[turn].copy_(best, non_blocking=True), self._next[turn].copy_(following, non_blocking=True)
        return Results(hidden, logits, *read)


class Drafting(Protocol):
    """The scorer, as its drafter sees it."""

    def want_draft(self) -> None:
        """The next block is to draft the one behind it."""
        ...

    def predicted(self) -> tuple[int, list[int]] | None:
        """Where the next block starts, and its tokens, as the last one drafted it."""
        ...


class GraphDraft:
    """Hands on what the scorer's blocks drafted; where they drafted something else, nothing."""

    def __init__(self, scorer: Drafting) -> None:
        self._scorer = scorer

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        if width < 1:
            return NOTHING
        self._scorer.want_draft()
        found = self._scorer.predicted()
        if found is None:
            return NOTHING
        start, following = found
        known = list(ids[start:])
        if not known or following[: len(known)] != known:
            return NOTHING
        drafted = following[len(known) : len(known) + width]
        return Draft(tuple(drafted), "mtp") if drafted else NOTHING
