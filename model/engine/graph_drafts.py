"""Blocks that draft the next one on the device, and run it before the host has asked for it (`graph_ahead`).

The block that comes next is the token behind what the decoder agreed with, drafts, and repetition where it has room for
that. It is looked up on the device: what the host proposed instead would come when another block is under way already.
The host asks for another one after a refused token.

Letters: R rows of a block, K width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from model.engine.contracts import Draft
from model.engine.drafters import NOTHING, common_prefix
from model.engine.graph_ahead import BlocksAhead, Flight, Results
from model.engine.graph_follow import Following
from model.gpu.drafts import BACK, DEPTH, DraftPass
from model.gpu.record import Pool

LEAST = 1 + DEPTH
"""Tokens of a block that drafts: the pending one, and a draft of each module."""


class Repeats(NamedTuple):
    """How blocks that draft are filled up with text that was written before: where the device finds the last tokens
    anywhere in it, what followed them there comes next (`kernels.drafting.Repetition`)."""

    tokens: int
    """Of a block; of as many as are drafted and the one before, none is looked up."""
    certain: int
    """Tokens that must have been written before for the text to be continued from there rather than by drafts."""
    likely: int
    """Tokens that must have been written before for it to go on behind the drafts."""


NO_REPEATS = Repeats(LEAST, 1, 1)
"""Blocks have no room for any."""


class Predicted(NamedTuple):
    """The next block."""

    start: int
    """Its position."""
    ids: list[int]
    drafted: int
    """How many ids behind the first are the modules'; repetition has the rest."""


class DraftedBlocks(BlocksAhead):
    """The blocks of one scorer that draft, of up to `tokens` tokens.

    compute: block int32 [2 + R] on the device -> hidden, logits and best ids of its tokens, rows written.
    Behind a block's tokens stand the positions where the modules begin.
    streams: fp32 [S + 1, K], the decoder's states of all positions. best: ids of a token that come to the host.
    """

    behind = DEPTH

    def __init__(
        self,
        drafts: DraftPass,
        following: Following,
        compute: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
        streams: Tensor,
        best: int,
        pool: Pool | None,
        tokens: int = LEAST,
    ) -> None:
        super().__init__(tokens, streams.device, pool)
        self._drafts = drafts
        self._following = following
        self._compute = compute
        # What the host reads.
        read = partial(torch.zeros, dtype=torch.int32, pin_memory=self._on_gpu)
        self._best = [read(tokens, best) for _ in range(2)]
        self._next = [read(2 + tokens + 1) for _ in range(2)]
        self._streams = streams
        # Tokens by position that the modules' rows were computed from.
        self._followed: list[int] = []

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

    def _note(self, flight: Flight) -> None:
        """Remember which tokens the modules have followed."""
        start, pending = flight.next[:2]
        del self._followed[flight.start :]
        self._followed += [*flight.ids[: start - flight.start], pending]

    def _follow(self, held: Sequence[int], ids: Sequence[int]) -> None:
        """The modules' rows of `held` that a block does not compute anew."""
        if self.has_followed(held):
            return
        self._following.follow(held, common_prefix(self._followed, held))
        self._followed = [*held, *ids[:1]]

    def _block(self, turn: int) -> Results:
        hidden, logits, best = self._compute(self._place[: 2 + self.tokens])
        said, following = self._best[turn], self._next[turn]
        self._drafts.next_block(best, self._place, self._streams, said, following)
        return Results(hidden, logits, said, following)

    def next_block(self) -> Predicted | None:
        """What the last block says comes next; None where the last pass was not one of these."""
        if self._last is None:
            return None
        start, *ids = self._last.next
        return Predicted(start, ids, self._last.told[-1])


class Drafting(Protocol):
    """The scorer, as its drafter sees it."""

    def want_draft(self) -> None:
        """The next block is to draft the one behind it."""
        ...

    def predicted(self) -> Predicted | None:
        """The next block, as the last one drafted it."""
        ...


class GraphDraft:
    """Hands on what the scorer's blocks drafted and looked up; where another text came before it, nothing."""

    def __init__(self, scorer: Drafting) -> None:
        self._scorer = scorer

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        if width < 1:
            return NOTHING
        self._scorer.want_draft()
        found = self._scorer.predicted()
        if found is None:
            return NOTHING
        start, following, modules = found
        known = list(ids[start:])
        if not known or following[: len(known)] != known:
            return NOTHING
        drafted = following[len(known) : len(known) + width]
        if not drafted:
            return NOTHING
        own = min(max(1 + modules - len(known), 0), len(drafted))
        return Draft(tuple(drafted), "mtp" if own else "lookup", (("lookup", len(drafted) - own),) if own else ())
