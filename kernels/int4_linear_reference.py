"""Four-bit weights, multiplied out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

Data = Tensor


def pack(codes: Tensor, steps: Tensor, offsets: Tensor) -> Data:
    grouped = codes.unflatten(-1, (steps.shape[1], -1)).float() - 8
    dense: Tensor = grouped * steps.float().unsqueeze(-1) + offsets.float().unsqueeze(-1)
    return dense.flatten(-2)


def int4_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    return F.linear(x.float(), data, None if bias is None else bias.float())
