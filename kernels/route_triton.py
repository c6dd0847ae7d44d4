"""A norm, a router's scores and its choice: a program has one row, and all experts' scores in its registers.

Experts stand in a grid of groups × places, each a power of two; what is there only to fill it is never chosen.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.experts import Routing
from kernels.launching import options, rows_of

TILE = 8192
"""Numbers of the router that are under way at once."""


@triton.jit
def _kernel(
    x_ptr, gain_ptr, weight_ptr, bias_ptr, ids_ptr, gates_ptr, K, eps, x_stride, scale, threshold,
    COUNT: tl.constexpr, GROUPS: tl.constexpr, CHOSEN: tl.constexpr, CHOSEN_GROUPS: tl.constexpr,
    ROWS: tl.constexpr, PLACES: tl.constexpr, LANES: tl.constexpr, SLOTS: tl.constexpr,
    BEST_TWO: tl.constexpr, SIGMOID: tl.constexpr, NORMALISED: tl.constexpr, BIAS: tl.constexpr,
    LIMITED: tl.constexpr, DENSE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    PER: tl.constexpr = COUNT // GROUPS
    FILLED: tl.constexpr = ROWS * PLACES
    row = tl.program_id(0)
    e = tl.arange(0, FILLED)
    there = (e // PLACES < GROUPS) & (e % PLACES < PER)
    expert = tl.where(there, e // PLACES * PER + e % PLACES, COUNT)
    lanes = tl.arange(0, LANES)
    if BIAS:
        bias = tl.load(bias_ptr + expert, mask=there, other=0.0)
    if OVERLAP:
        gdc_wait()
    dot = tl.zeros([FILLED, LANES], tl.float32)
    squares = tl.zeros([LANES], tl.float32)
    for first in range(0, K, LANES):
        k = first + lanes
        weight = tl.load(
            weight_ptr + expert[:, None] * K + k[None, :], mask=there[:, None] & (k < K)[None, :], other=0.0
        )
        x = tl.load(x_ptr + row * x_stride + k, mask=k < K, other=0.0)
        squares += x * x
        x *= tl.load(gain_ptr + k, mask=k < K, other=0.0).to(tl.float32)
        dot += x[None, :] * weight.to(tl.float32)
    logits = tl.sum(dot, 1) * tl.rsqrt(tl.sum(squares, 0) / K + eps)
    NEVER: tl.constexpr = float("-inf")
    if SIGMOID:
        small = tl.exp(-tl.abs(logits))  # never overflows
        scores = tl.where(logits < 0, small, 1.0) / (1 + small)
    else:
        logits = tl.where(there, logits, NEVER)
        scores = tl.exp(logits - tl.max(logits, 0))
        scores = scores / tl.sum(scores, 0)
    scores = tl.where(there, scores, 0.0)
    mass = tl.sum(scores, 0)
    wanted = scores
    if BIAS:
        wanted += bias
    wanted = tl.where(there, wanted, NEVER)
    if CHOSEN_GROUPS < GROUPS:
        grouped = tl.reshape(wanted, [ROWS, PLACES])
        place = tl.arange(0, PLACES)[None, :]
        worth = tl.max(grouped, 1)
        if BEST_TWO:
            others = tl.where(place == tl.argmax(grouped, 1)[:, None], NEVER, grouped)
            worth += tl.max(others, 1)
        group = tl.arange(0, ROWS)
        kept = group < 0
        for _ in tl.static_range(CHOSEN_GROUPS):
            best = tl.argmax(worth, 0)
            kept = kept | (group == best)
            worth = tl.where(group == best, NEVER, worth)
        wanted = tl.reshape(tl.where(kept[:, None], grouped, NEVER), [FILLED])
    chosen = e < 0
    for _ in tl.static_range(CHOSEN):
        best = tl.argmax(wanted, 0)
        chosen = chosen | (e == best)
        wanted = tl.where(e == best, NEVER, wanted)
    # From here on the order is by score, where choosing went by score and bias.
    left = tl.where(chosen, scores, -1.0)
    used = chosen
    if LIMITED:
        enough = tl.sum(tl.where(chosen, scores, 0.0), 0) / mass >= threshold
        reached = tl.full([], 0.0, tl.float32)
        needed = e < 0
        rest = left
        for _ in tl.static_range(CHOSEN):
            best = tl.argmax(rest, 0)
            needed = needed | (e == tl.where(reached / mass < threshold, best, -1))
            reached += tl.max(rest, 0)
            rest = tl.where(e == best, -1.0, rest)
        used = tl.where(enough, needed, there if DENSE else chosen)
        left = tl.where(used, scores, -1.0)
    total = scale
    if NORMALISED:
        total = scale / (tl.sum(tl.where(used, scores, 0.0), 0) + 1e-20)
    for slot in tl.static_range(SLOTS):
        best = tl.argmax(left, 0)
        score = tl.max(left, 0)
        found = score >= 0
        id = tl.sum(tl.where(e == best, expert, 0), 0)
        tl.store(ids_ptr + row * SLOTS + slot, tl.where(found, id, COUNT))
        tl.store(gates_ptr + row * SLOTS + slot, tl.where(found, score * total, 0.0))
        left = tl.where(e == best, -1.0, left)


def route(
    x: Tensor, gain: Tensor, eps: float, weight: Tensor, bias: Tensor | None, how: Routing
) -> tuple[Tensor, Tensor]:
    x = rows_of(x)
    groups, places = (triton.next_power_of_2(part) for part in (how.groups, how.experts // how.groups))
    columns = x.shape[1]
    ids = torch.empty(len(x), how.slots, dtype=torch.int32, device=x.device)
    gates = torch.empty(len(x), how.slots, dtype=torch.float32, device=x.device)
    _kernel[(len(x),)](
        x, gain, weight, weight if bias is None else bias, ids, gates, columns, eps, x.stride(0), how.scale,
        how.threshold,
        COUNT=how.experts, GROUPS=how.groups, CHOSEN=how.chosen, CHOSEN_GROUPS=how.chosen_groups,
        ROWS=groups, PLACES=places, LANES=min(triton.next_power_of_2(columns), max(TILE // (groups * places), 16)),
        SLOTS=how.slots, BEST_TWO=how.best_two, SIGMOID=how.sigmoid, NORMALISED=how.normalised, BIAS=bias is not None,
        LIMITED=how.threshold > 0, DENSE=how.dense, **options(8),
    )  # fmt: skip
    return ids, gates
