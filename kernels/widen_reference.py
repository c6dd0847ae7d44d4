"""Weights of four bits as numbers, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.weights import Four, dense


def widen(weight: Four) -> Tensor:
    return dense(weight).to(torch.bfloat16)
