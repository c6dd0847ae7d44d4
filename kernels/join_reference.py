"""Normed states beside normed embeddings, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.embed_reference import embed
from kernels.rms_norm_reference import rms_norm
from kernels.weights import Eight


def join(state: Tensor, ids: Tensor, table: Tensor | Eight, gains: tuple[Tensor, Tensor], eps: float) -> Tensor:
    of_state, of_token = gains
    parts = [rms_norm(state, of_state.float(), eps), rms_norm(embed(ids, table), of_token.float(), eps)]
    return torch.cat(parts, -1).to(of_state.dtype)
