"""Rows of a table."""

from __future__ import annotations

from torch import Tensor

from kernels.weights import Eight


def embed(ids: Tensor, table: Tensor | Eight) -> Tensor:
    at = ids.long()
    if isinstance(table, Eight):
        return table.codes[at].float() * table.scales[at].unsqueeze(-1)
    return table[at].float()
