"""What multi-token modules need between their layers: a program for each row that a module reads, one for the block."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.drafting import LONGEST, REACH, Joining, Repetition
from kernels.launching import options
from kernels.rank_triton import keys_of, place_of
from kernels.ranking import Scores
from kernels.streams_triton import row_of_table
from kernels.weights import stream

WARPS = 4
SEARCHING = 8
"""Warps where a history is searched."""
TILE = 1_024
"""Places of it that are looked at together."""


@triton.jit
def _drafted(
    logits_ptr, tops_ptr, ids_ptr, P, V,
    SEGMENTS: tl.constexpr, SEGMENT: tl.constexpr, WITHIN: tl.constexpr,
):  # fmt: skip
    """The id whose score is the highest, the first among equals."""
    i = tl.arange(0, SEGMENTS)
    tops = tl.load(tops_ptr + i, mask=i < P, other=0.0)
    within = tl.arange(0, WITHIN)
    v = place_of(tl.max(keys_of(tops, i, i < P), 0)) * SEGMENT + within
    there = (within < SEGMENT) & (v < V)
    scores = tl.load(logits_ptr + v, mask=there, other=0.0)
    return tl.load(ids_ptr + place_of(tl.max(keys_of(scores, v, there), 0)))


@triton.jit
def _agreed(best_ptr, block_ptr, ROWS: tl.constexpr, WIDE: tl.constexpr, LANES: tl.constexpr):
    """How many tokens behind the first the decoder would have written as well."""
    i = tl.arange(0, LANES)
    real = i + 1 < tl.load(block_ptr + 1)
    mine = tl.load(best_ptr + i * WIDE, mask=real, other=0)
    token = tl.load(block_ptr + 3 + i, mask=real, other=0)
    return tl.min(tl.where(real & (mine == token), ROWS, i), 0)


@triton.jit
def _gains(
    before_ptr, state_gain_ptr, token_gain_ptr, K,
    BLOCK: tl.constexpr, BEFORE: tl.constexpr,
):  # fmt: skip
    """What does not depend on the kernel before this one."""
    k = tl.arange(0, BLOCK)
    of_state = tl.load(state_gain_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    of_token = tl.load(token_gain_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    before = of_state
    if BEFORE:
        before = tl.load(before_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    return before, of_state, of_token


@triton.jit
def _write(
    state, token, gains, table_ptr, factor_ptr, before_ptr, out_ptr, K: tl.constexpr, before_eps, eps,
    BLOCK: tl.constexpr, BEFORE: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Normed state [BLOCK] beside the normed embedding of a token: a row of 2K."""
    before, of_state, of_token = gains
    k = tl.arange(0, BLOCK)
    inside = k < K
    embedded = row_of_table(table_ptr, factor_ptr, token, k, K, BITS, GROUP)
    if BEFORE:
        state = state * tl.rsqrt(tl.sum(state * state, 0) / K + before_eps) * before
        state = state.to(before_ptr.dtype.element_ty).to(tl.float32)
    state *= tl.rsqrt(tl.sum(state * state, 0) / K + eps)
    embedded *= tl.rsqrt(tl.sum(embedded * embedded, 0) / K + eps)
    dtype = out_ptr.dtype.element_ty
    tl.store(out_ptr + k, (state * of_state).to(dtype), mask=inside)
    tl.store(out_ptr + K + k, (embedded * of_token).to(dtype), mask=inside)


@triton.jit
def _first(
    best_ptr, block_ptr, streams_ptr, plan_ptr, last,
    table_ptr, factor_ptr, before_ptr, state_gain_ptr, token_gain_ptr, out_ptr,
    K: tl.constexpr, before_eps, eps,
    ROWS: tl.constexpr, WIDE: tl.constexpr, LANES: tl.constexpr, FURTHER: tl.constexpr, PLAN: tl.constexpr,
    BLOCK: tl.constexpr, BEFORE: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    gains = _gains(before_ptr, state_gain_ptr, token_gain_ptr, K, BLOCK, BEFORE)
    row = tl.program_id(0)
    start = tl.load(block_ptr)
    pending = tl.load(block_ptr + 2)
    k = tl.arange(0, BLOCK)
    place = tl.minimum(tl.maximum(start - 1 + row, 0), last).to(tl.int64)
    if OVERLAP:
        gdc_wait()
    token = tl.where(row == 0, pending, tl.load(best_ptr + (row - 1) * WIDE, mask=row > 0, other=0))
    state = tl.load(streams_ptr + place * K + k, mask=k < K, other=0.0)
    _write(
        state, token, gains, table_ptr, factor_ptr, before_ptr, out_ptr + row * 2 * K, K, before_eps, eps,
        BLOCK, BEFORE, BITS, GROUP,
    )  # fmt: skip
    if row == 0:
        behind = _agreed(best_ptr, block_ptr, ROWS, WIDE, LANES) + 1
        i = tl.arange(0, PLAN)
        further = tl.minimum(start + behind + i - 3, last)
        found = tl.where(i < 2, behind + i, tl.where(i == 2, 0, further))
        tl.store(plan_ptr + i, found, mask=i < 3 + FURTHER)


@triton.jit
def _second(
    best_ptr, block_ptr, plan_ptr, logits_ptr, tops_ptr, ids_ptr, first_ptr, states_ptr, drafts_ptr, P, V, last,
    table_ptr, factor_ptr, before_ptr, state_gain_ptr, token_gain_ptr, out_ptr,
    K: tl.constexpr, before_eps, eps,
    ROWS: tl.constexpr, WIDE: tl.constexpr, SEGMENTS: tl.constexpr, SEGMENT: tl.constexpr, WITHIN: tl.constexpr,
    BLOCK: tl.constexpr, BEFORE: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    gains = _gains(before_ptr, state_gain_ptr, token_gain_ptr, K, BLOCK, BEFORE)
    row = tl.program_id(0)
    k = tl.arange(0, BLOCK)
    place = tl.minimum(tl.maximum(tl.load(block_ptr) - 2 + row, 0), last).to(tl.int64)
    pending = tl.load(block_ptr + 2)
    if OVERLAP:
        gdc_wait()
    known = (row > 0) & (row <= ROWS)
    token = tl.where(known, tl.load(best_ptr + (row - 1) * WIDE, mask=known, other=0), pending)
    if row == tl.load(plan_ptr + 1):
        token = _drafted(logits_ptr, tops_ptr, ids_ptr, P, V, SEGMENTS, SEGMENT, WITHIN)
        tl.store(drafts_ptr, token)
    kept = states_ptr + place * K + k
    if row == 0:
        state = tl.load(kept, mask=k < K, other=0.0)
    else:
        state = tl.load(first_ptr + (row - 1) * K + k, mask=k < K, other=0.0)
        tl.store(kept, state, mask=k < K)
    _write(
        state, token, gains, table_ptr, factor_ptr, before_ptr, out_ptr + row * 2 * K, K, before_eps, eps,
        BLOCK, BEFORE, BITS, GROUP,
    )  # fmt: skip


@triton.jit
def _on(
    states_ptr, at_ptr, logits_ptr, tops_ptr, ids_ptr, draft_ptr, P, V,
    table_ptr, factor_ptr, before_ptr, state_gain_ptr, token_gain_ptr, out_ptr,
    K: tl.constexpr, before_eps, eps,
    SEGMENTS: tl.constexpr, SEGMENT: tl.constexpr, WITHIN: tl.constexpr,
    BLOCK: tl.constexpr, BEFORE: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    gains = _gains(before_ptr, state_gain_ptr, token_gain_ptr, K, BLOCK, BEFORE)
    k = tl.arange(0, BLOCK)
    state = tl.load(states_ptr + tl.load(at_ptr) * K + k, mask=k < K, other=0.0)
    token = _drafted(logits_ptr, tops_ptr, ids_ptr, P, V, SEGMENTS, SEGMENT, WITHIN)
    tl.store(draft_ptr, token)
    _write(
        state, token, gains, table_ptr, factor_ptr, before_ptr, out_ptr, K, before_eps, eps,
        BLOCK, BEFORE, BITS, GROUP,
    )  # fmt: skip


@triton.jit
def _repeated(history_ptr, end, SHORTEST: tl.constexpr, LONGEST: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr):
    """The place behind the longest run of tokens, up to LONGEST, that also ends at `end`, the latest among equals; 0
    where none is as long as SHORTEST."""
    found = tl.zeros([TILE], tl.int32)
    for begin in range(tl.maximum(end - REACH, 1), end, TILE):
        place = begin + tl.arange(0, TILE)
        same = place < end
        length = tl.zeros([TILE], tl.int32)
        for back in tl.static_range(1, LONGEST + 1):
            mine = tl.load(history_ptr + end - back, mask=end >= back, other=-1)
            mine = tl.where(mine < 0, -2, mine)  # what is not known equals nothing
            theirs = tl.load(history_ptr + place - back, mask=same & (place >= back), other=-1)
            same = same & (theirs == mine)
            length += same.to(tl.int32)
        # Longer runs are more, and later ones of the same length: one whole number, as places have less than 24 bits.
        found = tl.maximum(found, tl.where(length >= SHORTEST, (length << 24) + place, 0))
    return tl.max(found, 0) & 0xFFFFFF


@triton.jit
def _settle(
    best_ptr, block_ptr, plan_ptr, logits_ptr, tops_ptr, ids_ptr, drafts_ptr, said_ptr, following_ptr, P, V,
    history_ptr, last,
    ROWS: tl.constexpr, DRAFTS: tl.constexpr, WIDE: tl.constexpr, SEGMENTS: tl.constexpr, SEGMENT: tl.constexpr,
    WITHIN: tl.constexpr, LANES: tl.constexpr, BEST: tl.constexpr, CERTAIN: tl.constexpr, LIKELY: tl.constexpr,
    LONGEST: tl.constexpr, REACH: tl.constexpr, TILE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    i = tl.arange(0, LANES)
    behind = tl.load(plan_ptr)
    first = tl.load(block_ptr)
    start = first + behind
    pending = tl.load(best_ptr + (behind - 1) * WIDE)
    draft = tl.load(drafts_ptr + i, mask=i < DRAFTS - 1, other=0)
    newest = _drafted(logits_ptr, tops_ptr, ids_ptr, P, V, SEGMENTS, SEGMENT, WITHIN)
    b = tl.arange(0, BEST)
    ids = tl.load(best_ptr + b, mask=b < ROWS * WIDE, other=0)
    drafted = behind * 0 + DRAFTS
    found = behind * 0
    end = start + 1
    if ROWS > 1 + DRAFTS:
        token = tl.load(block_ptr + 2 + i, mask=i < behind, other=0)
        new = tl.where(i == behind, pending, token)
        tl.store(history_ptr + first + i, new, mask=(i <= behind) & (first + i <= last))
        of_drafts = tl.where(i == DRAFTS - 1, newest, draft)
        tl.store(history_ptr + start + 1 + i, of_drafts, mask=(i < DRAFTS) & (start + 1 + i <= last))
        tl.debug_barrier()  # all of the history is there
        found = _repeated(history_ptr, end, CERTAIN, LONGEST, REACH, TILE)
        drafted = tl.where(found > 0, 0, drafted)
        if found == 0:
            end = tl.minimum(end + DRAFTS, last + 1)
            found = _repeated(history_ptr, end, LIKELY, LONGEST, REACH, TILE)
    # Place i of the block has start, count, the token behind what was agreed with, drafts, repetition, places before.
    copied = tl.where(found > 0, i - 3 - drafted, -1)
    again = (copied >= 0) & (i < 2 + ROWS)
    told = tl.load(history_ptr + found + copied % tl.maximum(end - found, 1), mask=again, other=0)
    of_drafts = tl.load(drafts_ptr + i - 3, mask=(i >= 3) & (i < 2 + DRAFTS), other=0)
    of_drafts = tl.where(i == 2 + DRAFTS, newest, of_drafts)
    told = tl.where((i >= 3) & (i < 3 + drafted), of_drafts, told)
    count = 1 + tl.where(found > 0, ROWS - 1, drafted)
    told = tl.where(i == 0, start, tl.where(i == 1, count, tl.where(i == 2, pending, told)))
    back = tl.minimum(tl.maximum(start - (i - ROWS - 1), 0), last)
    tl.debug_barrier()  # all have read the block
    tl.store(block_ptr + i, tl.where(i >= 2 + ROWS, back, told), mask=i < 4 + ROWS)
    tl.store(following_ptr + i, tl.where(i == 2 + ROWS, drafted, told), mask=i < 3 + ROWS)
    tl.store(said_ptr + b, ids, mask=b < ROWS * WIDE)


def join_first(best: Tensor, block: Tensor, streams: Tensor, of: Joining, further: int) -> tuple[Tensor, Tensor]:
    rows, wide = best.shape
    plan = torch.empty(3 + further, dtype=torch.int32, device=best.device)
    out, given, sizes = _arguments(of, rows + 1)
    _first[(rows + 1,)](
        best, block, streams, plan, len(streams) - 1, *given,
        ROWS=rows, WIDE=wide, LANES=triton.next_power_of_2(rows), FURTHER=further,
        PLAN=triton.next_power_of_2(3 + further), **sizes, **options(WARPS),
    )  # fmt: skip
    return out, plan


def join_second(
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, first: Tensor, states: Tensor,
    drafts: Tensor, of: Joining,
) -> Tensor:  # fmt: skip
    rows, wide = best.shape
    parts, numbers, segments = _of_scores(scores)
    out, given, sizes = _arguments(of, rows + 2)
    _second[(rows + 2,)](
        best, block, plan, *parts, ids, first, states, drafts, *numbers, len(states) - 1, *given,
        ROWS=rows, WIDE=wide, **segments, **sizes, **options(WARPS),
    )  # fmt: skip
    return out


def join_on(
    states: Tensor, at: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, number: int, of: Joining
) -> Tensor:
    parts, numbers, segments = _of_scores(scores)
    out, given, sizes = _arguments(of, 1)
    # It begins when the kernels before it have ended: the layer behind it reads, before it waits, where it stands and
    # rows of its cache, both of which this block has written.
    _on[(1,)](
        states, at, *parts, ids, drafts[number:], *numbers, *given,
        **segments, **sizes, **options(WARPS, first=True),
    )  # fmt: skip
    return out


def settle(
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, repetition: Repetition,
    said: Tensor, following: Tensor,
) -> None:  # fmt: skip
    rows, wide = best.shape
    parts, numbers, segments = _of_scores(scores)
    history, certain, likely = repetition
    _settle[(1,)](
        best, block, plan, *parts, ids, drafts, said, following, *numbers, history, len(history) - 1,
        ROWS=rows, DRAFTS=len(drafts), WIDE=wide, **segments,
        LANES=triton.next_power_of_2(rows + 4), BEST=triton.next_power_of_2(rows * wide),
        CERTAIN=certain, LIKELY=likely, LONGEST=LONGEST, REACH=REACH, TILE=TILE,
        **options(WARPS if rows == 1 + len(drafts) else SEARCHING),
    )  # fmt: skip


def _of_scores(scores: Scores) -> tuple[tuple[Tensor, Tensor], tuple[int, int], dict[str, Any]]:
    """What all three that draft have in common: scores, how many there are, sizes."""
    logits, tops, segment = scores
    count = tops.shape[1]
    sizes = {"SEGMENT": segment, "WITHIN": triton.next_power_of_2(segment)}
    return (logits, tops), (count, logits.shape[1]), {"SEGMENTS": triton.next_power_of_2(count)} | sizes


def _arguments(of: Joining, rows: int) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """What all three that join have in common: what they write, arguments from the table on, sizes."""
    table = stream(of.embedding)
    gain, eps = of.before or (of.gains[0], of.eps)
    columns = table.shape[1]
    out = torch.empty(rows, 2 * columns, dtype=of.gains[0].dtype, device=gain.device)
    given = (table.numbers, table.factors, gain, *of.gains, out, columns, eps, of.eps)
    sizes = {"BLOCK": triton.next_power_of_2(columns), "BEFORE": of.before is not None}
    return out, given, sizes | {"BITS": table.bits, "GROUP": table.group}
