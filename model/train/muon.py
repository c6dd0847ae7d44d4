"""Muon for matrices, AdamW for everything else, as one optimiser.

Muon replaces the momentum of a matrix by the nearest matrix with all singular values about one, found by Newton–Schulz
steps, and scales it to move each number about as far as AdamW would, so that one learning rate serves both. Sources:
Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is Scalable for LLM
Training", 2025, section 2.2. A parameter [E, N, K] is E matrices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
RMS = 0.2
"""Root mean square of AdamW's updates, about."""


def orthogonal(x: Tensor) -> Tensor:
    """[..., N, K] -> about U Vᵀ of its singular value decomposition, in bf16 on a GPU."""
    x = x.bfloat16() if x.is_cuda else x
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = NEWTON
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Groups have `lr`, `decay`, and `kind`: "muon" or "adamw". State: one buffer a matrix, two for the others."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-10,
    ) -> None:
        super().__init__(list(groups), {"lr": 1e-3, "decay": 0.0, "kind": "adamw"})
        self.momentum, self.betas, self.eps = momentum, betas, eps

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step with the gradients that are there."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["kind"] == "muon":
                self._muon(parameters, group["lr"], group["decay"])
            else:
                self._adamw(parameters, group["lr"], group["decay"])

    def _muon(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - self.momentum)
            by_shape.setdefault(parameter.shape, []).append(parameter)
        # Matrices of one shape are turned together: a few large products instead of hundreds of small ones.
        for shape, same in by_shape.items():
            ahead = [p.grad.lerp(self.state[p]["momentum"], self.momentum) for p in same if p.grad is not None]
            updates = orthogonal(torch.stack(ahead)).float()
            scale = rate * RMS * max(shape[-2:]) ** 0.5
            for parameter, update in zip(same, updates, strict=True):
                parameter.mul_(1 - rate * decay).add_(update, alpha=-scale)

    def _adamw(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        first, second = self.betas
        for parameter in parameters:
            state = self.state[parameter]
            if "step" not in state:
                state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
            state["step"] += 1
            gradient = parameter.grad
            assert gradient is not None
            state["mean"].lerp_(gradient, 1 - first)
            state["square"].lerp_(gradient.square(), 1 - second)
            mean = state["mean"] / (1 - first ** state["step"])
            spread = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(self.eps)
            parameter.mul_(1 - rate * decay).addcdiv_(mean, spread, value=-rate)


def groups(named: Iterable[tuple[str, nn.Parameter]], decay: float) -> list[dict[str, Any]]:
    """Matrices inside the network by Muon; the embedding, routers and vectors by AdamW, vectors without decay."""
    muon, plain, vectors = [], [], []
    for name, parameter in named:
        if parameter.dim() < 2:
            vectors.append(parameter)
        elif name == "embedding" or name.endswith("router"):
            plain.append(parameter)
        else:
            muon.append(parameter)
    return [
        {"params": muon, "kind": "muon", "decay": decay},
        {"params": plain, "kind": "adamw", "decay": 0.0},
        {"params": vectors, "kind": "adamw", "decay": 0.0},
    ]
