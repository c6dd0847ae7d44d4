"""What attention remembers: preallocated rows per layer, one length for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.errors import ModelUsageError


class Row(NamedTuple):
    """What one position leaves behind in one layer: `heads` vectors of `width` features."""

    heads: int
    width: int


class LayerCache:
    """One layer's rows: a tensor [B, heads, max_length, width] for each Row that its attention declares."""

    def __init__(self, rows: Sequence[Tensor]) -> None:
        self._rows = tuple(rows)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """All of it, for those who write rows themselves and then say how long the cache is."""
        return self._rows

    def extend(self, start: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Write `new`, each [B, heads, T, width], at positions `start` on; views of the rows 0 … start + T."""
        end = start + new[0].shape[2]
        for kept, rows in zip(self._rows, new, strict=True):
            kept[:, :, start:end].copy_(rows)
        return tuple(kept[:, :, :end] for kept in self._rows)


class LayerCaches(NamedTuple):
    """One layer of several texts whose new rows come one after the other in one pass."""

    texts: Sequence[tuple[int, int, LayerCache]]
    """For each text, at which position its new rows start, how many they are, and where they go."""


class Cache:
    """The rows of all layers.

    `length` positions are kept, and a pass writes behind them. Forgetting the latest ones is therefore only a smaller
    number, and a pass that is interrupted leaves nothing behind.
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Row]],
        max_length: int,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        if max_length < 1:
            raise ModelUsageError(f"a cache of {max_length} positions")
        self.max_length = max_length
        self.length = 0
        # Outside of inference mode, or these rows could only ever be written inside of it.
        with torch.inference_mode(False):
            self.layers = [
                LayerCache([torch.empty(batch, r.heads, max_length, r.width, dtype=dtype, device=device) for r in rows])
                for rows in layers
            ]

    def truncate(self, length: int) -> None:
        """Keep only the first `length` positions."""
        if not 0 <= length <= self.length:
            raise ModelUsageError(f"cannot truncate a cache of {self.length} positions to {length}")
        self.length = length
