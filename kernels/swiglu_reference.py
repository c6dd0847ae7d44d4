"""silu(gate) · up in fp32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def swiglu(y: Tensor) -> Tensor:
    gate, up = y.float().chunk(2, -1)
    return (F.silu(gate) * up).to(y.dtype)
