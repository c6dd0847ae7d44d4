"""What multi-token modules need between their layers: what they read, and the block that comes of it.

Depth 1 at position t reads the decoder's state there and token t + 1, depth 2 the state of depth 1 and token t + 2
(`model.gpu.drafts`). A module reads `norm(state)` beside `norm(embedding of the token)`.
Source: DeepSeek-V3 Technical Report, 2024, section 2.2.

Letters: R rows of a block, K width, V' drafted ids, P segments of the head, S capacity, n ids of a row, D drafts.

best: int32 [R, n], the best ids behind each token of a block.
block: int32 [2 + R + 2], start, count, and R tokens, of which `count` are real; start - 1 and start - 2. The decoder
agrees with the first `a` of the tokens behind the first: best[i, 0] == token i + 1.
plan: int32 [3 + F], what depends on `a` alone: the row of depth 1 whose draft counts, a + 1; that of depth 2, a + 2; 0;
and the places of F further drafts, from start + a + 1 on.
scores: of one row, fp32 [1, V']: the highest has the place in `ids`, int32 [V'], of what is drafted.
drafts: int32 [D], what was drafted, fewer than the block has tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.checks import expect, expect_shape, run, solid
from kernels.ranking import Scores
from kernels.weights import Table, parts_of

LONGEST = 10
"""Tokens of a repetition that are compared, at most, to find its best place."""

REACH = 8_192
"""Tokens back to which it is looked for."""


class Repetition(NamedTuple):
    """Text that was written before, of which a block can be filled up.

    Prompt look-up decoding (Saxena 2023; Yang et al. 2023, "Inference with Reference"): of the places up to which the
    last tokens were written before, the one with the longest run in common counts, and among equals the latest.
    """

    history: Tensor
    """int32 [S + 1], the tokens of all positions before a block; less than 0 where one is not known."""
    certain: int
    """Tokens that must have been written before for the text to be continued from there rather than by drafts."""
    likely: int
    """Tokens that must have been written before for it to go on behind the drafts; one at least."""


class Joining(NamedTuple):
    """What states and tokens go through before a module."""

    before: tuple[Tensor, float] | None
    """What norms the state first, where modules are chained so: gain [K] and epsilon of what computed it."""
    gains: tuple[Tensor, Tensor]  # [K], of the state's norm and of the embedding's
    eps: float
    embedding: Table  # [V, K]


def join_first(best: Tensor, block: Tensor, streams: Tensor, of: Joining, further: int) -> tuple[Tensor, Tensor]:
    """What depth 1 reads at positions start - 1 … start + R - 1: [R + 1, 2K] in the gains' dtype, and the plan.

    streams: fp32 [S + 1, K], the decoder's states. further: F.
    """
    _expect_block(best, block)
    _expect_states(streams, of)
    found: tuple[Tensor, Tensor] = run("drafting", best).join_first(best, block, streams, of, further)
    return found


def join_second(
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, first: Tensor, states: Tensor,
    drafts: Tensor, of: Joining,
) -> Tensor:  # fmt: skip
    """What depth 2 reads at positions start - 2 … start + R - 1: [R + 2, 2K] in the gains' dtype.

    first: fp32 [R + 1, K], the states of depth 1 from start - 1 on; they are kept in `states`, fp32 [S + 1, K], which
    has the one before. scores: of depth 1; what it drafted comes to drafts[0].
    """
    _expect_block(best, block)
    _expect_states(states, of)
    expect_shape("first", first, len(best) + 1, states.shape[1])
    joined: Tensor = run("drafting", best).join_second(
        best, block, plan, _of_one(scores, ids), ids, solid("first", first), states, drafts, of
    )
    return joined


def join_on(
    states: Tensor, at: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, number: int, of: Joining
) -> Tensor:
    """What a further draft reads: row `at` [1] of states fp32 [n, K] and what `scores` say, which comes to
    drafts[number]. [1, 2K] in the gains' dtype."""
    _expect_states(states, of)
    expect("at", at, 1, torch.int32)
    joined: Tensor = run("drafting", states).join_on(states, at, _of_one(scores, ids), ids, drafts, number, of)
    return joined


def settle(
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, repetition: Repetition,
    said: Tensor, following: Tensor,
) -> None:  # fmt: skip
    """The block becomes the one that comes next: the token behind what the decoder agreed with, and all drafts.

    Where it has room for more, it is filled up with what followed the same tokens before; without drafts, where
    enough of the text is such a repetition. Tokens and drafts are written into the history, too.
    scores: of the last draft. said: int32 [R, n], a copy of `best`. following: int32 [2 + R + 1], of start, count,
    tokens, and how many of them are drafts. Both in memory that the host reads.
    """
    _expect_block(best, block)
    expect_shape("said", solid("said", said), *best.shape)
    expect_shape("following", solid("following", following), 3 + len(best))
    expect("history", solid("history", repetition.history), 1, torch.int32)
    if len(drafts) >= len(best):
        raise ValueError(f"{len(drafts)} drafts behind {len(best)} tokens; expected fewer")
    if min(repetition.certain, repetition.likely) < 1:
        raise ValueError(f"repetitions of {repetition.certain} and {repetition.likely} tokens; expected one at least")
    run("drafting", best).settle(best, block, plan, _of_one(scores, ids), ids, drafts, repetition, said, following)


def _of_one(scores: Scores, ids: Tensor) -> Scores:
    expect_shape("scores", scores.logits, 1, len(ids))
    return scores


def _expect_block(best: Tensor, block: Tensor) -> None:
    expect("best", solid("best", best), 2, torch.int32)
    expect("block", block, 1, torch.int32)
    expect_shape("block", block, 4 + len(best))


def _expect_states(states: Tensor, of: Joining) -> None:
    expect("states", solid("states", states), 2, torch.float32)
    numbers, *_ = (solid("embedding", part) for part in parts_of(of.embedding))
    widths = [states.shape[1], numbers.shape[1], *(len(gain) for gain in of.gains)]
    if len(set(widths)) > 1:
        raise ValueError(f"states, embeddings and gains of {widths} columns; expected as many of each")
