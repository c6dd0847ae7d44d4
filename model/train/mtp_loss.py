"""What the MTP modules minimise, and what is measured of them.

Letters: N positions, V' drafted ids, D depths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 16_384
"""Rows whose logits are held in fp32 at once."""


def soft_cross_entropy(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Mean over positions, weighted, of -Σ_v p(v) log q(v), with p from `teacher` and q from `student`.

    student, teacher: logits [N, V']; weights [N], of which at least one is not 0. Returns a scalar, fp32.
    """
    total = torch.zeros((), device=student.device)
    for q, p, w in zip(student.split(CHUNK), teacher.split(CHUNK), weights.split(CHUNK), strict=True):
        total = total + (w * _rows(q, p)).sum()
    return total / weights.sum()


def _rows(student: Tensor, teacher: Tensor) -> Tensor:
    logits = student.float()
    probabilities = torch.softmax(teacher.float(), -1)
    return torch.logsumexp(logits, -1) - (probabilities * logits).sum(-1)


def compensated(losses: Sequence[Tensor], alpha: Sequence[float], beta: float) -> Tensor:
    """L = Σ αᵢ Lᵢ + β/2 Σ (Lᵢ - Lᵢ₋₁)²: a depth is not left behind by the one before it.

    The losses of the depths, scalars, in order; the second sum is over neighbours.
    """
    total = torch.stack([a * loss for a, loss in zip(alpha, losses, strict=True)]).sum()
    for before, after in pairwise(losses):
        total = total + beta / 2 * (after - before) ** 2
    return total


def accepted(right: Sequence[Tensor]) -> list[Tensor]:
    """Which drafts would be kept: depth i is right, and so are all before it. Masks [B, T - i], one per depth."""
    kept = list(right[:1])
    for mask in right[1:]:
        kept.append(mask & kept[-1][:, : mask.shape[1]])
    return kept


def tokens_per_pass(shares: Sequence[float]) -> float:
    """One token from the decoder's own row, and each draft as often as it is kept."""
    return 1 + sum(shares)


def loss_of_ids(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean of -log q(id): logits [N, V], ids [N]. Scalar, fp32."""
    return F.cross_entropy(logits.float(), ids)
