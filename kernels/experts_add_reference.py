"""What the chosen experts end in, slot by slot, in fp32."""

from __future__ import annotations

from torch import Tensor

from kernels.weights import Weight, dense


def experts_add(x: Tensor, inner: Tensor, ids: Tensor, gates: Tensor, weight: Weight, shared: Weight | None) -> Tensor:
    experts = dense(weight).unflatten(0, (-1, x.shape[1]))  # [E, K, I]
    shares = [] if shared is None else dense(shared).unflatten(1, (-1, inner.shape[2])).unbind(1)
    y = x.float().clone()
    for row, chosen in enumerate(ids.tolist()):
        for slot, expert in enumerate(chosen):
            if expert < len(experts):
                y[row] += gates[row, slot] * (experts[expert] @ inner[row, slot].float())
        for slot, matrix in enumerate(shares, len(chosen)):
            y[row] += matrix @ inner[row, slot].float()
    return y
