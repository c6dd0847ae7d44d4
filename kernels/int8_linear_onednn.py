"""Eight-bit weights by oneDNN, inputs in twice eight bits: exact sums, the same time for 1 row and for 8."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_product = torch.ops.onednn.qlinear_pointwise.default

ZERO = 128  # in unsigned inputs, which VNNI multiplies; signed ones need AMX, or oneDNN takes 400 times as long
FINER = 254  # steps of the second eight bits in one of the first: ±half a step is ±127


class Data(NamedTuple):
    codes: Tensor  # opaque to all but oneDNN
    scales: Tensor  # fp32 [N]
    zeros: Tensor  # int32 [N]


def pack(codes: Tensor, scales: Tensor) -> Data:
    opaque = torch.ops.onednn.qlinear_prepack(codes.contiguous(), None)
    return Data(opaque, scales, torch.zeros(len(codes), dtype=torch.int32))


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).float()
    count = len(rows)
    # Each row is rounded by its own largest magnitude. The bound keeps a row of zeros from dividing by zero.
    steps = rows.abs().amax(-1, keepdim=True).mul_(1 / 127).clamp_(min=1e-30)
    # Some activations are hundreds of times their neighbours, of which eight bits leave little. What they leave is
    # rounded to eight more, as further rows of the same product: it takes as long for 2 rows as for 1.
    scaled = rows / steps
    codes = scaled.round()
    both = torch.cat([codes, (scaled - codes).mul_(FINER).round_()]).add_(ZERO).to(torch.uint8)
    y: Tensor = _product(
        both, 1.0, ZERO, data.codes, data.scales, data.zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    y = torch.add(y[:count], y[count:], alpha=1 / FINER).mul_(steps)
    if bias is not None:
        y.add_(bias)
    return y.view(*x.shape[:-1], -1)
