"""Rows into a table, from a place on."""

from __future__ import annotations

import torch
from torch import Tensor


def keep(rows: Tensor, start: Tensor, table: Tensor) -> Tensor:
    places = (start + torch.arange(len(rows), device=rows.device)).clamp(0, len(table) - 1)
    return table.index_copy_(0, places, rows)
