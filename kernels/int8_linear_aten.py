"""Eight-bit weights by PyTorch's weight-only product: inputs in bfloat16, any processor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Data = tuple[Tensor, Tensor]  # int8 [N, K], fp32 [N]

# From so many rows on, turning the codes into bfloat16 once is cheaper than reading them row by row.
MANY_ROWS = 32


def pack(codes: Tensor, scales: Tensor) -> Data:
    return codes.contiguous(), scales


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    codes, scales = data
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    if len(rows) < MANY_ROWS:
        # The operator rounds its scales to bfloat16; ours are applied to what it returns.
        y = torch._weight_int8pack_mm(rows, codes, torch.ones(len(codes), dtype=torch.bfloat16))
    else:
        y = F.linear(rows, codes.to(torch.bfloat16))
    wide = y.float() * scales
    return (wide if bias is None else wide + bias).view(*x.shape[:-1], -1)
