"""RMS norm and a product, one after the other, in fp32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kernels import rms_norm_reference
from kernels.weights import Head, dense


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None) -> Tensor:
    normed = rms_norm_reference.rms_norm(x, gain.float(), eps)
    return F.linear(normed, dense(weight), None if bias is None else bias.float())
