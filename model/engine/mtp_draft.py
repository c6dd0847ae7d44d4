"""Drafts by the multi-token modules: what the decoder computed anyway says more than the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from model.engine.contracts import Draft
from model.engine.drafters import NOTHING, common_prefix

ROWS = 256
"""Positions computed at a time: what a long prompt needs besides its rows stays bounded."""


class States(Protocol):
    """Where the decoder's own states are kept: `CachedScorer`."""

    @property
    def hidden(self) -> Tensor:
        """[positions, K], the state of every cached position before the final norm."""
        ...


class Modules(Protocol):
    """D multi-token modules that keep their own rows of attention."""

    @property
    def depth(self) -> int: ...

    def advance(self, depth: int, state: Tensor, tokens: Sequence[int], start: int) -> Tensor:
        """Positions start … start + T - 1 at one depth (from 0), whose rows from `start` on are overwritten.

        state: [T, K] of the depth before; tokens: the T ids that are read beside it. Returns the next state [T, K].
        """
        ...

    def best(self, depth: int, state: Tensor) -> int:
        """The most likely id after `state` [K] of a depth."""
        ...


class MTPDraft:
    """Drafts one token for each depth (DeepSeek-V3 Technical Report, section 2.2), and goes on with the last depth.

    Depth k (from 1) at position t reads the state of depth k - 1 and token t + k, and says token t + k + 1. At the last
    cached position depth 1 therefore reads the pending token, depth 2 the draft of depth 1, and so on: rows that read a
    draft are computed anew once it is known what came of it.

    Behind the last depth the same module is run on at the next position: it reads its own state, which stands for what
    the depth before it would give there (EAGLE, Li et al. 2024, section 4.1, feeds its head so). At most `longest`
    tokens are drafted, by default one for each depth.
    """

    def __init__(self, modules: Modules, states: States, capacity: int, longest: int | None = None) -> None:
        self._modules = modules
        self._states = states
        self._capacity = capacity
        self._longest = modules.depth if longest is None else longest
        self._ids: list[int] = []
        self._kept = [0] * modules.depth
        self._levels: list[Tensor] = []

    @torch.inference_mode()
    def propose(self, ids: Sequence[int], width: int) -> Draft:
        """See `Drafter`. With no width the rows that need no draft are computed all the same, for a later proposal."""
        cached = len(ids) - 1
        if cached < 1:
            return NOTHING
        self._forget(ids)
        if not self._levels:
            # The first depth reads the scorer's own rows; a row of these is written before it is read.
            like = self._states.hidden
            self._levels = [like.new_empty(self._capacity, like.shape[-1]) for _ in range(self._modules.depth)]
        if width < 1:
            for depth in range(self._modules.depth):
                self._compute(depth, ids, cached - depth)
            return NOTHING
        drafted: list[int] = []
        width = min(width, self._longest)
        for depth in range(min(width, self._modules.depth)):
            self._compute(depth, [*ids, *drafted], cached)
            self._kept[depth] = max(cached - depth, 0)
            drafted.append(self._modules.best(depth, self._levels[depth][cached - 1]))
        state = self._levels[len(drafted) - 1][cached - 1 : cached]
        for place in range(cached, cached + width - len(drafted)):
            state = self._modules.advance(self._modules.depth - 1, state, drafted[-1:], place)
            drafted.append(self._modules.best(self._modules.depth - 1, state[0]))
        return Draft(tuple(drafted), "mtp")

    def _compute(self, depth: int, ids: Sequence[int], end: int) -> None:
        """The rows of a depth that are missing, up to position `end`."""
        below = self._levels[depth - 1] if depth else self._states.hidden
        for begin in range(self._kept[depth], end, ROWS):
            rows = slice(begin, min(begin + ROWS, end))
            tokens = ids[begin + depth + 1 : rows.stop + depth + 1]
            self._levels[depth][rows] = self._modules.advance(depth, below[rows], tokens, begin)
        self._kept[depth] = max(self._kept[depth], end)

    def _forget(self, ids: Sequence[int]) -> None:
        """Keep the rows that read nothing but what `ids` still says."""
        same = common_prefix(self._ids, ids)
        self._kept = [min(kept, max(same - depth - 1, 0)) for depth, kept in enumerate(self._kept)]
        self._ids = list(ids)
