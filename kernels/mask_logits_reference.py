"""Which ids may not follow, struck out one by one."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_logits(logits: Tensor, mask: Tensor) -> Tensor:
    ids = torch.arange(logits.shape[1], device=logits.device)
    allowed = (mask[:, ids // 32] >> (ids % 32)) & 1
    return logits.masked_fill_(allowed == 0, -torch.inf)
