"""RMS norm, queries, keys and values, turned by their positions and written where attention reads them."""

from __future__ import annotations

from torch import Tensor

from kernels import block
from kernels.weights import Weight


def norm_heads(
    x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None,
    rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor,
) -> Tensor:  # fmt: skip
    return block.turn(block.norm_linear(x, gain, eps, weight, bias), rotation, keys, values, start)
