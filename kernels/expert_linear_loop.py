"""One product for each expert that has rows: no other expert's matrix is read."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def expert_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        x, weight = (part.to(torch.get_autocast_dtype(x.device.type)) for part in (x, weight))
    bounds = [0, *ends.tolist()]
    runs = [x[start:end] @ weight[expert].T for expert, (start, end) in enumerate(pairwise(bounds)) if end > start]
    return torch.cat([*runs, x.new_zeros(len(x) - bounds[-1], weight.shape[1])])
