"""Two multi-token modules behind a block, by the fused ops: what comes after it, before the host has seen it.

Depth 1 at position t reads the decoder's state there and token t + 1, and says token t + 2; depth 2 reads the state of
depth 1 and token t + 2, and says token t + 3 (DeepSeek-V3 Technical Report, 2024, section 2.2).

Behind the last depth it is run on, as `model.engine.mtp_draft` says: it reads its own state and its own draft. What it
writes there is written again by the block that comes next.

A block begins at `start`. Depth 1 is computed from start - 1 on, depth 2 from start - 2 on: there stood, in the block
before, tokens that the host may since have replaced. All rows behind what the decoder agrees with are computed in vain,
and overwritten by the next block. Where it has room for more tokens than are drafted, repetition fills it up.

Letters: R rows of the block, K width, V' drafted ids, S capacity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
from kernels.drafting import Joining, Repetition
from kernels.ranking import Scores
from model.decoder import Block
from model.gpu import halves
from model.gpu.block import MOST_ROWS, BlockPass, Layers, layer_of
from model.gpu.parts import FORMAT, Norm, Product, norm_of, product_of, weight_of
from model.layers import RMSNorm
from model.mtp import MTPModule
from model.mtp_rows import MTPRows

BACK = 2
"""Positions before a block that are computed anew: it begins no earlier."""

DEPTH = 2
"""Modules that are used."""


class Depth(NamedTuple):
    """A module's weights."""

    joining: Joining
    projection: Product
    through: Layers
    norm: Norm


def unsupported_drafts(rows: MTPRows) -> str | None:
    """Why modules cannot be computed here, in a few words; None if they can."""
    if rows.depth < DEPTH:
        return f"there are fewer than {DEPTH} modules"
    for module in rows.modules[:DEPTH]:
        if found := halves.problem(module.block.attention, module.block.feed_forward):
            return found
    products = [rows.head, *(module.projection for module in rows.modules[:DEPTH])]
    return FORMAT if any(weight_of(module) is None for module in products) else None


class DraftPass:
    """The modules' weights and rows as the ops take them."""

    def __init__(
        self, rows: MTPRows, block: BlockPass, capacity: int, longest: int = DEPTH, certain: int = 1, likely: int = 1
    ) -> None:
        """longest: drafts, one of each module at least. certain, likely: see `kernels.drafting.Repetition`."""
        self._depths = [
            _depth(module, cache.rows, block) for module, cache in zip(rows.modules, rows.cache.layers, strict=True)
        ][:DEPTH]
        self._head = product_of(rows.head)
        width = self._depths[0].norm.gain.numel()
        device = block.rotation.device
        self._ids = torch.tensor(rows.ids, dtype=torch.int32, device=device)
        # The state of depth 1 at every position; the row behind the last takes what lies beyond.
        self.states = torch.zeros(capacity + 1, width, dtype=torch.float32, device=device)
        # Tokens by position; none is known yet.
        self.history = torch.full((capacity + 1,), -1, dtype=torch.int32, device=device)
        self._repetition = Repetition(self.history, certain, likely)
        self._nothing = torch.zeros(MOST_ROWS + DEPTH, width, dtype=torch.float32, device=device)
        self._drafts = torch.zeros(max(longest, DEPTH), dtype=torch.int32, device=device)

    def next_block(self, best: Tensor, block: Tensor, streams: Tensor, said: Tensor, following: Tensor) -> None:
        """best int32 [R, n], block int32 [2 + R + DEPTH], streams fp32 [S + 1, K]: `block` becomes the next one.

        See `kernels.drafting`. said, following: what the host reads of the ids and of that block, int32 [2 + R + 1].
        """
        drafts, count = self._drafts, 2 + len(best)
        joined, plan = kernels.join_first(best, block, streams, self._depths[0].joining, len(drafts) - DEPTH)
        first = self._state(0, joined, block[count : count + 1])
        scores = self._scores(0, first, plan[:1])
        joined = kernels.join_second(
            best, block, plan, scores, self._ids, first, self.states, drafts, self._depths[1].joining
        )
        state, at = self._state(1, joined, block[count + 1 :]), plan[1:2]
        scores = self._scores(1, state, at)
        for number in range(1, len(drafts) - 1):
            joined = kernels.join_on(state, at, scores, self._ids, drafts, number, self._depths[-1].joining)
            state, at = self._state(-1, joined, plan[2 + number : 3 + number]), plan[2:3]
            scores = self._scores(-1, state, at)
        kernels.settle(best, block, plan, scores, self._ids, drafts, self._repetition, said, following)

    def _state(self, depth: int, joined: Tensor, start: Tensor) -> Tensor:
        """[R', 2K] at positions start … -> the next state [R', K]"""
        module = self._depths[depth]
        return module.through(kernels.linear_add(self._nothing[: len(joined)], joined, *module.projection), start)

    def _scores(self, depth: int, state: Tensor, at: Tensor) -> Scores:
        """Row `at` of [R', K] -> scores of the ids that are drafted."""
        return kernels.norm_scores(state, *self._depths[depth].norm, *self._head, at=at)


def _depth(module: MTPModule, rows: tuple[Tensor, ...], block: BlockPass) -> Depth:
    of_block, state_norm, token_norm, norm = module.block, module.state_norm, module.embedding_norm, module.norm
    before = None
    if isinstance(state_norm, nn.Sequential):
        first, state_norm = state_norm
        assert isinstance(first, RMSNorm)
        before = norm_of(first)
    assert isinstance(of_block, Block) and isinstance(norm, RMSNorm)
    assert isinstance(state_norm, RMSNorm) and isinstance(token_norm, RMSNorm)
    gains = (norm_of(state_norm).gain, norm_of(token_norm).gain)
    joining = Joining(before, gains, norm_of(norm).eps, block.embedding)
    through = Layers([layer_of(of_block, rows)], block.rotation)
    return Depth(joining, product_of(module.projection), through, norm_of(norm))
