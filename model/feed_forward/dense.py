"""The dense feed-forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.layers import Linear


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)), with gate and up in one product.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        inner = config.feed_forward_width
        self.gate_up = Linear(config.width, (inner, inner), config.feed_forward_bias, dtype)
        self.down = Linear(inner, (config.width,), config.feed_forward_bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        gate, up = self.gate_up(x).chunk(2, -1)
        y: Tensor = self.down(F.silu(gate) * up)
        return y
