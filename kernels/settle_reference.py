"""The next block, number by number."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.follow_reference import agreed


def settle(best: Tensor, block: Tensor, first: Tensor, second: Tensor, table: Tensor, width: int) -> Tensor:
    last = agreed(best, block)
    drafts = [table[first[last + 1, 0].long()], table[second[last + 2, 0].long()]]
    found = torch.zeros(2 + width, dtype=torch.int32, device=best.device)
    found[0] = block[0] + last + 1
    found[1] = 3
    found[2] = best[last, 0]
    found[3], found[4] = drafts
    return found
