"""Eight-bit weights, multiplied out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

Data = Tensor


def pack(codes: Tensor, scales: Tensor) -> Data:
    return codes.float() * scales.unsqueeze(-1)


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    return F.linear(x.float(), data, None if bias is None else bias.float())
