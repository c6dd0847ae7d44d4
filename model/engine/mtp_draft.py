"""Drafts by the multi-token modules: what the decoder computed anyway says more than the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from model.engine.contracts import Draft
from model.engine.drafters import NOTHING
from model.engine.loop import common_prefix

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
    """Drafts one token for each depth (DeepSeek-V3 Technical Report, section 2.2).

    Depth k (from 1) at position t reads the state of depth k - 1 and token t + k, and says token t + k + 1. At the last
    cached position depth 1 therefore reads the pending token, depth 2 the draft of depth 1, and so on: rows that read a
    draft are computed anew once it is known what came of it.
    """

    def __init__(self, modules: Modules, states: States, capacity: int) -> None:
        self._modules = modules
        self._states = states
        self._capacity = capacity
        self._ids: list[int] = []
        self._kept = [0] * modules.depth
        self._levels: list[Tensor] = []

    @torch.inference_mode()
    def propose(self, ids: Sequence[int], width: int) -> Draft:
        cached = len(ids) - 1
        if width < 1 or cached < 1:
            return NOTHING
        self._forget(ids)
        if not self._levels:
            # The first depth reads the scorer's own rows; a row of these is written before it is read.
            like = self._states.hidden
            self._levels = [like.new_empty(self._capacity, like.shape[-1]) for _ in range(self._modules.depth)]
        below = self._states.hidden
        drafted: list[int] = []
        for depth in range(min(width, self._modules.depth)):
            start = self._kept[depth]
            tokens = [*ids, *drafted][depth + 1 :]
            level = self._levels[depth]
            for begin in range(start, cached, ROWS):
                end = min(begin + ROWS, cached)
                level[begin:end] = self._modules.advance(depth, below[begin:end], tokens[begin:end], begin)
            drafted.append(self._modules.best(depth, level[cached - 1]))
            self._kept[depth] = max(cached - depth, 0)
            below = level
        return Draft(tuple(drafted), "mtp")

    def _forget(self, ids: Sequence[int]) -> None:
        """Keep the rows that read nothing but what `ids` still says."""
        same = common_prefix(self._ids, ids)
        self._kept = [min(kept, max(same - depth - 1, 0)) for depth, kept in enumerate(self._kept)]
        self._ids = list(ids)
