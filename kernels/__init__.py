"""Tensors in, tensors out: the ops that have more than one implementation.

Each function here states shapes and dtypes and checks them once for every backend; `kernels.backend` chooses which one
runs. Letters: N features out, K features in, B groups of inputs that share a scale; `...` any leading dimensions.
"""

from __future__ import annotations

from torch import Tensor

from kernels import backend

__all__ = ["rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension, computed in fp32.

    x: [..., K], any float dtype. weight: [K]. Returns [..., K] in weight's dtype.
    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight of shape {list(weight.shape)} for rows of {x.shape[-1]}")
    y: Tensor = backend.implementation("rms_norm", x.device.type).rms_norm(x, weight, eps)
    return y
