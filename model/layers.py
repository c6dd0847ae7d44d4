"""The pieces that every decoder here is made of.

Letters: B batch, T time, H heads, D head width, K features in, N features out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from model.config import Rope

ROWS_APART = 32
"""Up to so many rows of a pass on a CPU come out bit for bit as they do without the rows beside them.

A drafted text is then the text that comes token by token: a last bit can tip a near tie.
"""

AT_ONCE = {torch.bfloat16: 4}
"""Rows of one product there: a product of as many rows always sums in the same order. Other dtypes: 1.

In bfloat16, 4 rows take the time of 1 (oneDNN); in fp32 a single row has a quicker product than any few.
"""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b, [..., K] -> [..., N]; few rows on a CPU in products of one shape, see ROWS_APART."""
    count = x.shape[:-1].numel()
    if count > ROWS_APART or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    at_once = AT_ONCE.get(weight.dtype, 1)
    rows = x.reshape(count, -1)
    if count % at_once:
        rows = F.pad(rows, (0, 0, 0, -count % at_once))
    # The order of a sum can also depend on where its numbers lie: a copy lies where all copies lie.
    found = [F.linear(rows[at : at + at_once].clone(), weight, bias) for at in range(0, count, at_once)]
    y = found[0] if len(found) == 1 else torch.cat(found)
    return y[:count].view(*x.shape[:-1], -1)


class Linear(nn.Module):
    """y = x Wᵀ + b. `parts` are the rows of W, [sum(parts), K], by what they compute: (queries, keys, values).

    It is also the place where a loader puts a module that keeps the same rows in fewer bits (`model.quantised`).
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, inputs: int, parts: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.parts = parts
        self.weight = _parameter(sum(parts), inputs, dtype=dtype)
        self.register_parameter("bias", _parameter(sum(parts), dtype=dtype) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]"""
        return linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """Token ids [B, T] -> rows [B, T, K] in the weight's dtype."""

    weight: nn.Parameter

    def __init__(self, count: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = _parameter(count, width, dtype=dtype)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class RMSNorm(nn.Module):
    """`kernels.rms_norm` with its weight [K]; the result has the weight's dtype."""

    weight: nn.Parameter

    def __init__(self, width: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.eps = eps
        self.weight = _parameter(width, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return kernels.rms_norm(x, self.weight, self.eps)


def _parameter(*shape: int, dtype: torch.dtype) -> nn.Parameter:
    # Inference is the rule; a trainer says what it trains.
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)


def frequencies(rope: Rope) -> Tensor:
    """Radians per position of each rotary pair, fp32 [width/2].

    Source: Su et al., "RoFormer", 2021, §3.2; `rope.factors` stretch single frequencies.
    """
    width = rope.width // rope.repeats
    # On the meta device, arange alone would import PyTorch's compiler: seconds, and a hundred megabytes.
    cpu = torch.device("cpu")
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=cpu) / width
    plain = 1.0 / rope.theta**steps
    return (plain if rope.factors is None else plain / torch.tensor(rope.factors, device=cpu)).repeat(rope.repeats)


class Rotary(nn.Module):
    """Cosines and signed sines of positions, for `rotate`."""

    def __init__(self, rope: Rope, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.gain = rope.gain
        self.register_buffer("frequencies", frequencies(rope), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [T] -> cosines and signed sines, each [T, width]."""
        frequencies = self.get_buffer("frequencies")
        angles = positions.to(frequencies.dtype).unsqueeze(-1) * frequencies
        cos, sin = angles.cos() * self.gain, angles.sin() * self.gain
        return torch.cat([cos, cos], -1).to(self.dtype), torch.cat([-sin, sin], -1).to(self.dtype)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (x[i], x[i + width/2]) of [..., T, D]; features past the rotary width stay.

    With the first half's sine negated, x·cos + roll(x, width/2)·sin is the turn of both halves at once.
    """
    cos, sin = rotation
    width = cos.shape[-1]
    turned = x if width == x.shape[-1] else x[..., :width]
    turned = torch.addcmul(turned * cos, turned.roll(width // 2, -1), sin)
    return turned if width == x.shape[-1] else torch.cat([turned, x[..., width:]], -1)
