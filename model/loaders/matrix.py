"""A weight of ours before it is read: which rows of which tensors it stacks, given out slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from model.errors import BadWeights, printable
from model.loaders.names import Part
from model.loaders.sources import Source

SLICE = 1 << 19  # numbers read at once: 2 MB in fp32, which stay in a processor's cache


class Matrix:
    """Rows [N, K] of one of our weights, checked for NaN and infinity as they are read; a bias is [N, 1] there."""

    def __init__(self, source: Source, parts: Sequence[Part], shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.parts = parts
        self._source = source

    def slices(self) -> Iterator[tuple[int, Tensor]]:
        """(first row, rows [n, K]) in order, in the checkpoint's float dtype."""
        place = 0
        for part in self.parts:
            for rows in self._part(part):
                yield place, rows
                place += len(rows)

    def read(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """All of it at once, as a tensor of `shape`."""
        whole = torch.empty(self.shape, dtype=dtype, device=device)
        flat = whole.view(self.shape[0], -1)
        for place, rows in self.slices():
            flat[place : place + len(rows)] = rows.to(device=device, dtype=dtype)
        return whole

    def stored(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The rows as the checkpoint stores them, uint8 [N, bytes per row], and how to read some: of one part only."""
        (part,) = self.parts
        stored, kind = self._source.stored(part.name)
        return stored, kind.numbers

    def _part(self, part: Part) -> Iterator[Tensor]:
        shape = self._source.shape(part.name)
        if len(shape) == 1:
            rows = self._checked(part, self._source.rows(part.name, 0, 1).view(-1, 1))
            yield self._halves(rows) if part.interleaved else rows
            return
        multiple = self._source.config.head_width if part.interleaved else 1
        step = max(multiple, SLICE // shape[1] // multiple * multiple)
        for start in range(0, shape[0], step):
            rows = self._checked(part, self._source.rows(part.name, start, min(start + step, shape[0])))
            yield self._halves(rows) if part.interleaved else rows

    def _halves(self, rows: Tensor) -> Tensor:
        """Rows that alternate between the two halves of each head -> one half after the other."""
        pairs: Tensor = rows.unflatten(0, (-1, self._source.config.head_width // 2, 2))
        return pairs.transpose(1, 2).flatten(0, 2)

    def _checked(self, part: Part, rows: Tensor) -> Tensor:
        low, high = torch.aminmax(rows)  # both are NaN as soon as one number is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise BadWeights(f"tensor {printable(part.name)} holds NaN or infinity")
        return rows
