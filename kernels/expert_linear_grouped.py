"""PyTorch's own grouped product, which learns on the device which rows are whose; on a GPU it is for bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import expert_linear_loop


def expert_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        x, weight = (part.to(torch.get_autocast_dtype(x.device.type)) for part in (x, weight))
    if x.device.type == "cuda" and x.dtype != torch.bfloat16:
        return expert_linear_loop.expert_linear(x, weight, ends)
    return F.grouped_mm(x, weight.transpose(-2, -1), offs=ends)
