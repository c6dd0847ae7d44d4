"""Eight-bit weights by PyTorch's weight-only product: inputs in bfloat16, any processor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Up to so many rows are multiplied by the codes; for more, turning the codes into bfloat16 once is cheaper.
FEW_ROWS = 32
COLUMNS = 32  # the operator reads so many at a time, and past the end of rows that are no multiple


class Data(NamedTuple):
    codes: Tensor  # int8 [N, K], K filled up with zeros
    scales: Tensor  # fp32 [N]
    ones: Tensor  # bfloat16 [N]


def pack(codes: Tensor, scales: Tensor) -> Data:
    filled = F.pad(codes, (0, -codes.shape[1] % COLUMNS))
    return Data(filled.contiguous(), scales, torch.ones(len(codes), dtype=torch.bfloat16, device=codes.device))


def int8_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    if rows.shape[1] % COLUMNS:
        rows = F.pad(rows, (0, -rows.shape[1] % COLUMNS))
    if len(rows) <= FEW_ROWS:
        # The operator rounds its scales to bfloat16; ours are applied to what it returns.
        y = torch._weight_int8pack_mm(rows, data.codes, data.ones)
    else:
        y = F.linear(rows, data.codes.to(torch.bfloat16))
    wide = y * data.scales
    return (wide if bias is None else wide.add_(bias)).view(*x.shape[:-1], -1)
