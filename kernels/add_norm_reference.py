"""A residual sum and its RMS norm, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rms_norm_reference import rms_norm


def add_norm(x: Tensor, y: Tensor | None, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    total = x if y is None else x + y
    return total, rms_norm(total, gain.float(), eps).to(dtype)
