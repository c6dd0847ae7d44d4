"""Gate, up and SwiGLU of the chosen experts, slot by slot, in fp32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.weights import Weight, activations, dense


def experts_swiglu(
    x: Tensor, gain: Tensor, eps: float, ids: Tensor, weight: Weight, shared: Weight | None, width: int
) -> Tensor:
    normed = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps) * gain.float()
    experts = dense(weight).unflatten(0, (-1, 2, width))  # [E, 2, I, K]
    shares = [] if shared is None else list(dense(shared).unflatten(0, (2, -1, width)).transpose(0, 1))
    slots = ids.shape[1]
    y = torch.zeros(len(x), slots + len(shares), width, device=x.device)
    for row, chosen in enumerate(ids.tolist()):
        for slot, matrices in enumerate([*(experts[e] if e < len(experts) else None for e in chosen), *shares]):
            if matrices is not None:
                gate, up = matrices @ normed[row]
                y[row, slot] = F.silu(gate) * up
    return y.to(activations(weight))
