"""The ops of a mixture of experts for a block of few tokens: who sees whom, and the products with nobody else's matrix.

What a router chose is a list of experts for every row, in slots; nothing of it comes to the host. Shared experts, which
every row has, are so many more slots. A weight holds the matrices of all experts, one below the other; that of n shared
ones is one SwiGLU that is n times as wide.

Letters: R rows of the block, K width, E experts, S slots of a row, I features inside an expert, n shared experts.
Source: DeepSeek-V3 Technical Report, 2024, section 2.1.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.checks import expect, expect_shape, run, solid
from kernels.weights import Weight, parts_of, shape_of

MOST_SLOTS = 32
"""Slots of a row, shared experts among them: a program reads from all of their matrices at once."""


class Routing(NamedTuple):
    """How experts are chosen; see `model.feed_forward.routing`."""

    experts: int  # E
    chosen: int
    groups: int
    chosen_groups: int
    best_two: bool  # a group is worth the sum of its two best experts; else its best one
    sigmoid: bool  # else softmax
    normalised: bool
    scale: float
    threshold: float  # of the mass, which is enough; 0: `chosen` experts always
    dense: bool  # every expert, where the chosen ones do not reach the threshold

    @property
    def slots(self) -> int:
        """S"""
        return self.experts if self.threshold and self.dense else self.chosen


def route(
    x: Tensor, gain: Tensor, eps: float, weight: Tensor, bias: Tensor | None, how: Routing
) -> tuple[Tensor, Tensor]:
    """The experts of every row of rms_norm(x, gain): ids int32 [R, S], and what they count, fp32 [R, S].

    A slot that is not used has the id E and counts nothing. x: fp32 [R, K], gain [K], weight [E, K]; bias: fp32 [E],
    added for choosing alone.
    """
    expect("x", x, 2, torch.float32)
    expect_shape("gain", gain, x.shape[1])
    expect_shape("weight", solid("weight", weight), how.experts, x.shape[1])
    if bias is not None:
        expect("bias", bias, 1, torch.float32)
        expect_shape("bias", bias, how.experts)
    found: tuple[Tensor, Tensor] = run("route", x).route(x, gain, eps, weight, bias, how)
    return found


def experts_swiglu(
    x: Tensor, gain: Tensor, eps: float, ids: Tensor, weight: Weight, shared: Weight | None, width: int
) -> Tensor:
    """silu(gate) · up of rms_norm(x, gain) by the experts of each row: [R, S + n, I], in `activations(weight)`.

    x: fp32 [R, K]. ids: int32 [R, S]; slots of the id E are not written. weight: [E·2I, K], the gate before the up of
    each expert. shared: [2·n·I, K], all gates before all ups. width: I.
    """
    count, columns = _expect(x, ids, weight, shared)
    shares = 0 if shared is None else shape_of(shared)[0] // (2 * width)
    if count % (2 * width) or (shared is not None and shape_of(shared) != (2 * shares * width, columns)):
        raise ValueError(f"{count} rows of experts, {shared and shape_of(shared)[0]} of shared ones; {width} in each")
    expect_shape("x", x, len(x), columns)
    expect_shape("gain", gain, columns)
    y: Tensor = run("experts_swiglu", x).experts_swiglu(x, gain, eps, ids, weight, shared, width)
    return y


def experts_add(x: Tensor, inner: Tensor, ids: Tensor, gates: Tensor, weight: Weight, shared: Weight | None) -> Tensor:
    """x + Σ gate · expert(inner), and all that shared experts give: fp32 [R, K].

    inner: [R, S + n, I]. ids: int32 [R, S], gates: fp32 [R, S]. weight: [E·K, I]; shared: [K, n·I].
    """
    count, columns = _expect(x, ids, weight, shared)
    expect("gates", gates, 2, torch.float32)
    expect_shape("gates", gates, *ids.shape)
    shares = 0 if shared is None else shape_of(shared)[1] // columns
    expect_shape("inner", inner, len(x), ids.shape[1] + shares, columns)
    if count % x.shape[1] or (shared is not None and shape_of(shared) != (x.shape[1], shares * columns)):
        raise ValueError(f"experts {[count, columns]}, shared {shared and shape_of(shared)} for rows of {x.shape[1]}")
    y: Tensor = run("experts_add", x).experts_add(x, inner, ids, gates, weight, shared)
    return y


def _expect(x: Tensor, ids: Tensor, weight: Weight, shared: Weight | None) -> tuple[int, int]:
    """What is true of both products; the rows and columns of the experts' weight."""
    expect("x", x, 2, torch.float32)
    expect("ids", ids, 2, torch.int32)
    expect_shape("ids", ids, len(x), ids.shape[1])
    if ids.shape[1] > MOST_SLOTS:
        raise ValueError(f"{ids.shape[1]} slots; expected at most {MOST_SLOTS}")
    for part in (weight, *([] if shared is None else [shared])):
        for tensor in parts_of(part):
            solid("weight", tensor)
    return shape_of(weight)
