"""Eight-bit weights as a block's products read them. By themselves they are multiplied as bfloat16, for many rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.weights import Eight

Data = Eight


def pack(codes: Tensor, scales: Tensor) -> Data:
    return Eight(codes.contiguous(), scales.contiguous())


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    y = F.linear(x.to(torch.bfloat16), data.codes.to(torch.bfloat16))
    return y * data.scales if bias is None else torch.addcmul(bias.float(), y, data.scales)  # in fp32
