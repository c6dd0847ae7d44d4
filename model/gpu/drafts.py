"""Two multi-token modules behind a block, by the fused ops: what comes after it, before the host has seen it.

Depth 1 at position t reads the decoder's state there and token t + 1, and says token t + 2; depth 2 reads the state of
depth 1 and token t + 2, and says token t + 3 (DeepSeek-V3 Technical Report, 2024, section 2.2).

Behind the last depth it is run on, as `model.engine.mtp_draft` says: it reads its own state and its own draft. What it
writes there is written again by the block that comes next.

A block begins at `start`. Depth 1 is computed from start - 1 on, depth 2 from start - 2 on: there stood, in the block
before, tokens that the host may since have replaced. All rows behind what the decoder agrees with are computed in vain,
and overwritten by the next block.

Letters: R rows of the block, K width, V' drafted ids, S capacity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
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

    before: Norm | None
    """What norms the state first: the norm of what computed it, where modules are chained so."""
    gains: tuple[Tensor, Tensor]
    eps: float
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

    def __init__(self, rows: MTPRows, block: BlockPass, capacity: int) -> None:
        self._block = block
        self._depths = [
            _depth(module, cache.rows, block.rotation)
            for module, cache in zip(rows.modules, rows.cache.layers, strict=True)
        ][:DEPTH]
        self._head = product_of(rows.head)
        width = self._depths[0].norm.gain.numel()
        device = block.rotation.device
        self.table = torch.tensor(rows.ids, dtype=torch.int32, device=device)
        # The state of depth 1 at every position; the row behind the last takes what lies beyond.
        self.states = torch.zeros(capacity + 1, width, dtype=torch.float32, device=device)
        self._capacity = capacity
        # From the first position that is computed anew; for a block as wide as any.
        self._offsets = torch.arange(-DEPTH, MOST_ROWS, dtype=torch.int32, device=device)
        self._nothing = torch.zeros(MOST_ROWS + DEPTH, width, dtype=torch.float32, device=device)
        self._any = torch.zeros(MOST_ROWS + DEPTH, 1, dtype=torch.int32, device=device)

    def next_block(self, best: Tensor, block: Tensor, streams: Tensor) -> Tensor:
        """best int32 [R, n], block int32 [2 + R] (see `kernels.follow`), streams fp32 [S + 1, K] -> the next block."""
        rows = len(best)
        places = (block[:1] + self._offsets[: rows + DEPTH]).clamp_(0, self._capacity)
        wide = places.long()
        # Depth 1 does not yet read what it drafts: any draft may stand there.
        tokens = kernels.follow(best, block, self._any, self.table)[: rows + 1]
        first = self._state(0, streams[wide[1:]], tokens, places[1:2])
        kernels.keep(first, places[1:2], self.states)
        drafted = self._best(0, first)
        tokens = kernels.follow(best, block, drafted, self.table)
        second = self._state(1, self.states[wide], tokens, places[:1])
        following = kernels.settle(best, block, drafted, self._best(1, second), self.table, len(block) - 2)
        return self._longer(following, second, following[:1] - block[:1] + (DEPTH - 1))

    def _longer(self, block: Tensor, states: Tensor, last: Tensor) -> Tensor:
        """A block [2 + R] that has DEPTH drafts, with as many as it has room for; the last of them was read from row
        `last` [1] of the states."""
        known = 2 + 1 + DEPTH
        state = states[last.long()]
        for i in range(known, len(block)):
            place = (block[:1] + (i - known)).clamp_(max=self._capacity)
            state = self._state(DEPTH - 1, state, block[i - 1 : i], place)
            block[i : i + 1] = self.table[self._best(DEPTH - 1, state)[0].long()]
            block[1:2] += 1
        return block

    def _state(self, depth: int, state: Tensor, tokens: Tensor, start: Tensor) -> Tensor:
        """[R', K] and R' ids at positions start … -> the next state [R', K]"""
        module = self._depths[depth]
        if module.before:
            state = kernels.rms_norm(state, *module.before).float()
        joined = kernels.join(state, tokens, self._block.embedding, module.gains, module.eps)
        x = kernels.linear_add(self._nothing[: len(state)], joined, *module.projection)
        return module.through(x, start)

    def _best(self, depth: int, state: Tensor) -> Tensor:
        """[R', K] -> places in the table, int32 [R', 1]"""
        return kernels.top_ids(kernels.norm_linear(state, *self._depths[depth].norm, *self._head), 1)


def _depth(module: MTPModule, rows: tuple[Tensor, ...], rotation: Tensor) -> Depth:
    block, state_norm, token_norm, norm = module.block, module.state_norm, module.embedding_norm, module.norm
    before = None
    if isinstance(state_norm, nn.Sequential):
        first, state_norm = state_norm
        assert isinstance(first, RMSNorm)
        before = norm_of(first)
    assert isinstance(block, Block) and isinstance(norm, RMSNorm)
    assert isinstance(state_norm, RMSNorm) and isinstance(token_norm, RMSNorm)
    gains = (norm_of(state_norm).gain, norm_of(token_norm).gain)
    through = Layers([layer_of(block, rows)], rotation)
    return Depth(before, gains, norm_of(norm).eps, product_of(module.projection), through, norm_of(norm))
