"""Rows of a table."""

from __future__ import annotations

from torch import Tensor

from kernels.weights import Table, dense, picked


def embed(ids: Tensor, table: Table) -> Tensor:
    return dense(picked(table, ids))
