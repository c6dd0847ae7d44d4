"""The best ids of every row out of its best segments: a program for each row, which also keeps the row.

A score and its place are one whole number, a key: larger for a higher score and, among equals, for a lower place. The
best is a maximum, and the next best the maximum of what is left.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launching import options
from kernels.ranking import Scores

LOWEST = tl.constexpr(-(2**63))
GROUP = 4
"""Segments that a thread loads at once, and of which it looks at the best one: the segments of a group lie side by
side, so that groups are ordered as segments are."""


@triton.jit
def keys_of(scores, places, there):
    """The keys of scores at places; of what is not there, less than any."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)  # + 0.0: minus zero equals zero
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - places).to(tl.int64)
    return tl.where(there, keys, LOWEST)


@triton.jit
def place_of(key):
    """The place that a key says."""
    return 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def _best_of(keys, COUNT: tl.constexpr, WIDE: tl.constexpr):
    """The largest of keys [n], in order: [WIDE], of which COUNT are there, and the rest LOWEST."""
    place = tl.arange(0, WIDE)
    found = tl.full([WIDE], LOWEST, tl.int64)
    # A loop, not its iterations one behind the other: they would be read from memory once each.
    for i in range(COUNT):
        best = tl.max(keys, 0)
        found = tl.where(place == i, best, found)
        keys = tl.where(keys == best, LOWEST, keys)
    return found


@triton.jit
def _kernel(
    logits_ptr, tops_ptr, hidden_ptr, start_ptr, streams_ptr, best_ptr, said_ptr, block_ptr, P, V, K, last,
    GROUPS: tl.constexpr, GROUP: tl.constexpr, SEGMENT: tl.constexpr, LANES: tl.constexpr, COUNT: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_K: tl.constexpr, ADVANCE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    row = tl.program_id(0)
    segment = tl.arange(0, GROUPS * GROUP)
    tops = tl.load(tops_ptr + row.to(tl.int64) * P + segment, mask=segment < P, other=float("-inf"))
    start = tl.load(start_ptr)
    k = tl.arange(0, BLOCK_K)
    state = tl.load(hidden_ptr + row * K + k, mask=k < K, other=0.0)
    group = tl.arange(0, GROUPS)
    tops = tl.max(tl.reshape(tops, [GROUPS, GROUP]), 1)
    found = _best_of(keys_of(tops, group, group * GROUP < P), COUNT, WIDE)

    lane = tl.arange(0, LANES)[None, :]
    real = found != LOWEST
    v = tl.where(real, place_of(found), 0)[:, None] * (GROUP * SEGMENT) + lane
    there = real[:, None] & (lane < GROUP * SEGMENT) & (v < V)
    scores = tl.load(logits_ptr + row.to(tl.int64) * V + v, mask=there, other=0.0)
    best = place_of(_best_of(tl.reshape(keys_of(scores, v, there), [WIDE * LANES]), COUNT, WIDE))

    i = tl.arange(0, WIDE)
    tl.store(best_ptr + row * COUNT + i, best, mask=i < COUNT)
    tl.store(said_ptr + row * COUNT + i, best, mask=i < COUNT)
    to = tl.minimum(tl.maximum(start + row, 0), last).to(tl.int64)
    tl.store(streams_ptr + to * K + k, state, mask=k < K)
    if ADVANCE:
        tokens = tl.load(block_ptr + 1)
        token = tl.sum(tl.where(i == 0, best, 0), 0)
        place = tl.arange(0, 4)
        following = tl.where(place == 0, start + 1, tl.where(place == 1, tokens, token))
        tl.debug_barrier()  # all have read where it starts
        tl.store(block_ptr + place, following, mask=place < 3)
        tl.store(said_ptr + COUNT + place, following, mask=place < 3)


def rank(
    found: Scores, count: int, hidden: Tensor, start: Tensor, streams: Tensor, said: Tensor | None, block: Tensor | None
) -> Tensor:
    logits, tops, segment = found
    rows, vocabulary = logits.shape
    best = torch.empty(rows, count, dtype=torch.int32, device=logits.device)
    columns, segments = hidden.shape[1], tops.shape[1]
    groups = triton.next_power_of_2(triton.cdiv(segments, GROUP))
    _kernel[(rows,)](
        logits, tops, hidden, start, streams, best, best if said is None else said, best if block is None else block,
        segments, vocabulary, columns, len(streams) - 1,
        GROUPS=groups, GROUP=GROUP, SEGMENT=segment, LANES=triton.next_power_of_2(GROUP * segment), COUNT=count,
        WIDE=triton.next_power_of_2(count), BLOCK_K=triton.next_power_of_2(columns), ADVANCE=block is not None,
        **options(8 if groups > 512 else 4),
    )  # fmt: skip
    return best
