"""RMS norm, gate and up, and their product, one after the other, in fp32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kernels import norm_linear_reference
from kernels.weights import Weight, activations


def norm_swiglu(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None) -> Tensor:
    gate, up = norm_linear_reference.norm_linear(x, gain, eps, weight, bias).chunk(2, -1)
    return (F.silu(gate) * up).to(activations(weight))
