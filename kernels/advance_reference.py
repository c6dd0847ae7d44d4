"""The best ids of a token, and the block of one token that comes next."""

from __future__ import annotations

import torch
from torch import Tensor


def advance(best: Tensor, block: Tensor) -> Tensor:
    block.copy_(torch.stack([block[0] + 1, block[1], best[0, 0]]))
    return torch.cat([best[0], block])
