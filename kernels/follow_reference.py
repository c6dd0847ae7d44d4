"""What a block is followed by, token by token."""

from __future__ import annotations

import torch
from torch import Tensor


def agreed(best: Tensor, block: Tensor) -> int:
    """How many tokens behind the first the decoder would have written as well."""
    tokens = block[2 : 2 + int(block[1])].tolist()
    same = [int(mine) == token for mine, token in zip(best[:, 0], tokens[1:], strict=False)]
    return same.index(False) if False in same else len(same)


def follow(best: Tensor, block: Tensor, drafted: Tensor, table: Tensor) -> Tensor:
    last = agreed(best, block)
    found = torch.cat([block[2:3], best[:, 0], block[2:3]])
    found[last + 2] = table[drafted[last + 1, 0].long()]
    return found
