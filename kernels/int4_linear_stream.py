"""Four-bit weights as a block's products read them. By themselves they are multiplied as bfloat16, for many rows.

Rows that are no whole chunks stay bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.weights import Four, dense, fits, four

Data = Four | Tensor


def pack(codes: Tensor, steps: Tensor, offsets: Tensor) -> Data:
    if fits(codes.shape[1], codes.shape[1] // steps.shape[1]):
        return four(codes, steps, offsets)
    numbers: Tensor = (codes.unflatten(-1, (steps.shape[1], -1)).float() - 8) * steps.float().unsqueeze(-1)
    numbers = numbers + offsets.float().unsqueeze(-1)
    return torch.flatten(numbers, -2).to(torch.bfloat16)


def int4_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    y = F.linear(x.to(torch.bfloat16), dense(data).to(torch.bfloat16)).float()
    return y if bias is None else y + bias
