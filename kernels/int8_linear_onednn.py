"""Eight-bit weights and inputs by oneDNN: exact sums in 32 bits, the same time for 1 row and for 16."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_product = torch.ops.onednn.qlinear_pointwise.default


class Data(NamedTuple):
    codes: Tensor  # opaque to all but oneDNN
    scales: Tensor  # fp32 [N]
    zeros: Tensor  # int32 [N]


def pack(codes: Tensor, scales: Tensor) -> Data:
    opaque = torch.ops.onednn.qlinear_prepack(codes.contiguous(), None)
    return Data(opaque, scales, torch.zeros(len(codes), dtype=torch.int32))


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).float()
    # Each row is rounded by its own largest magnitude. The bound keeps a row of zeros from dividing by zero.
    steps = torch.linalg.vector_norm(rows, torch.inf, dim=-1, keepdim=True).mul_(1 / 127).clamp_(min=1e-30)
    codes = (rows / steps).round_().to(torch.int8)
    y: Tensor = _product(
        codes, 1.0, 0, data.codes, data.scales, data.zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    y.mul_(steps)
    if bias is not None:
        y.add_(bias)
    return y.view(*x.shape[:-1], -1)
