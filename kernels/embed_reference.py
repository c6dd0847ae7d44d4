"""Rows of a table."""

from __future__ import annotations

from torch import Tensor


def embed(ids: Tensor, table: Tensor) -> Tensor:
    return table[ids.long()].float()
