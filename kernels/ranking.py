"""From the last layer of a block to the best ids of its rows.

The product with the head leaves, beside the scores, the highest of every few ids, a *segment*. Segments are ordered by
it, those of lower ids first among equals, as ids are by their scores. The best n ids lie in the best n segments: before
an id of another segment would come at least one of each of those. So few scores are looked at again.

Letters: R rows, K features in, V vocabulary, P segments, S capacity.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.block import expect_product
from kernels.checks import expect, expect_shape, run, solid
from kernels.weights import Head

MOST_IDS = 32
"""Ids that `rank` can rank."""


class Scores(NamedTuple):
    """Scores, and the highest of each segment of them."""

    logits: Tensor  # fp32 [R, V]
    tops: Tensor  # fp32 [R, P]
    segment: int
    """Ids of a segment; the last may have fewer."""


def norm_scores(
    x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None = None, at: Tensor | None = None
) -> Scores:
    """`norm_linear`, and the highest score of each segment. x [R, K], weight [V, K].

    at: int32 [1], the one row that is computed.
    """
    expect("x", x, 2, torch.float32)
    expect_product(x, weight, bias, gain, head=True)
    if at is not None:
        expect("at", at, 1, torch.int32)
        expect_shape("at", at, 1)
    found: Scores = run("norm_scores", x).norm_scores(x, gain, eps, weight, bias, at)
    return found


def rank(
    found: Scores, count: int, hidden: Tensor, start: Tensor, streams: Tensor,
    said: Tensor | None = None, block: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The best ids of each row, best first, the lower id first among equals: int32 [R, count].

    In the same launch: `keep` of hidden fp32 [R, K] from `start` on in `streams` fp32 [S, K]. The ids are written to
    `said`, int32 [R · count], as well, which may be memory of the host that the device can write.
    block: of a single token, int32 [3], start, 1 and the token: it becomes the one behind it, in place and in `said`,
    int32 [count + 3], behind the ids.
    """
    logits = found.logits
    expect("hidden", hidden, 2, torch.float32)
    expect("start", start, 1, torch.int32)
    if not 1 <= count <= min(MOST_IDS, logits.shape[1]):
        raise ValueError(f"{count} ids of {logits.shape[1]}; expected 1 to {min(MOST_IDS, logits.shape[1])}")
    if len(hidden) != len(logits) or streams.shape[1:] != hidden.shape[1:] or streams.dtype != hidden.dtype:
        raise ValueError(f"rows {list(hidden.shape)} of {len(logits)} for {streams.dtype} {list(streams.shape)}")
    if block is not None:
        expect_shape("block", block, 3)
        expect_shape("hidden", hidden, 1, hidden.shape[1])
    if said is not None:
        expect("said", solid("said", said), 1, torch.int32)
        expect_shape("said", said, logits.shape[0] * count + (0 if block is None else 3))
    elif block is not None:
        raise ValueError("a block is advanced, and nobody is told")
    best: Tensor = run("rank", logits).rank(
        found, count, hidden.contiguous(), start, solid("streams", streams), said, block
    )
    return best
