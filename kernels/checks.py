"""What the public functions of ops have in common: what they expect, and who then computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import backend


def run(op: str, x: Tensor) -> Any:
    """The module that computes `op` where `x` is."""
    return backend.implementation(op, x.device.type)


def expect(name: str, x: Tensor, dimensions: int, dtype: torch.dtype | None = None) -> None:
    """So many dimensions, of that dtype."""
    if x.dim() != dimensions or (dtype is not None and x.dtype != dtype):
        wanted = f"{dtype or 'a tensor'} of {dimensions} dimensions"
        raise ValueError(f"{name} is {x.dtype} {list(x.shape)}; expected {wanted}")


def expect_shape(name: str, x: Tensor, *shape: int) -> None:
    """Exactly that shape."""
    if tuple(x.shape) != shape:
        raise ValueError(f"{name} of shape {list(x.shape)}; expected {list(shape)}")


def solid(name: str, x: Tensor) -> Tensor:
    """What is large is never copied unasked."""
    if not x.is_contiguous():
        raise ValueError(f"{name} has gaps between its rows; make it contiguous once, before it is used")
    return x
