"""Scores and the highest of each segment, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.norm_linear_reference import norm_linear
from kernels.ranking import Scores
from kernels.weights import Head

SEGMENT = 100


def norm_scores(x: Tensor, gain: Tensor, eps: float, weight: Head, bias: Tensor | None, at: Tensor | None) -> Scores:
    logits = norm_linear(x if at is None else x[at.long()], gain, eps, weight, bias)
    return Scores(logits, torch.stack([some.amax(1) for some in logits.split(SEGMENT, 1)], 1), SEGMENT)
