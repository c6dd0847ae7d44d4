"""Four-bit weights by PyTorch's weight-only product: inputs in bfloat16, any processor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# The codes are laid out by blocks of rows; so many rows are laid out at once, to bound the 32-bit copy that it takes.
ROWS = 4096


class Data(NamedTuple):
    codes: Tensor  # uint8 [N, K/2], in a layout that depends on the processor
    factors: Tensor  # bfloat16 [g, N, 2]: steps and offsets
    group: int  # columns that share them


def pack(codes: Tensor, steps: Tensor, offsets: Tensor) -> Data:
    laid = [torch._convert_weight_to_int4pack_for_cpu(part.to(torch.int32), 1) for part in codes.split(ROWS)]
    factors = torch.stack([steps.t(), offsets.t()], -1).contiguous()
    return Data(torch.cat(laid), factors, codes.shape[1] // steps.shape[1])


def int4_linear(x: Tensor, data: Data, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
    y = torch._weight_int4pack_mm_for_cpu(rows, data.codes, data.group, data.factors).float()
    return (y if bias is None else y + bias).view(*x.shape[:-1], -1)
