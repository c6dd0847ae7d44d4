"""Scores and Gumbel noise, which is made of a hash of the id, keyed for each row: the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def perturb(logits: Tensor, keys: Tensor, temperature: float) -> Tensor:
    words = torch.arange(logits.shape[1], dtype=torch.int32, device=logits.device) + keys[:, :1]
    words = mixed(mixed(words).add_(keys[:, 1:]))
    # 31 bits, between 0 and 1; what is rare in sampling is close to 0, where a float has bits to spare.
    share = words.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_(2**-31).clamp_max_(1 - 2**-24)
    return logits / temperature + share.neg_().log1p_().neg_().log_().neg_()


def mixed(words: Tensor) -> Tensor:
    """Each word int32, in place, so that any bit changes half of all bits.

    Source: the last step of MurmurHash3 for 32 bits (Appleby, 2011; `fmix32`).
    """
    for shift, factor in ((16, -0x7A143595), (13, -0x3D4D51CB), (16, 1)):
        words ^= (words >> shift) & ((1 << 32 - shift) - 1)  # PyTorch keeps the sign
        words *= factor
    return words
