"""A weight of ours before it is read: which rows of which tensors it stacks, given out slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import kernels
from kernels import Packed
from model.errors import BadWeights, printable
from model.loaders.ggml import Q8_0, codes_and_scales
from model.loaders.names import Pairs, Part
from model.loaders.sources import Source
from model.loaders.storage import FOUR_BITS, taken_apart

STRIPS = 16  # rows that `kernels.pack_stored` takes at once, or a divisor
SLICE = 1 << 17  # numbers read at once: 512 kB in fp32, below what model/memory.py lets be mapped one by one


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

    def spread(self, count: int) -> Tensor:
        """`count` rows [count, K], or all where there are fewer, at equal distances: of one part only."""
        (part,) = self.parts
        places = torch.linspace(0, self.shape[0] - 1, min(count, self.shape[0])).long().tolist()
        return torch.cat([self._source.rows(part.name, place, place + 1) for place in places]).float()

    def chunk(self, count: int) -> list[Matrix]:
        """As many equal matrices one below the other; none where a part belongs to several of them."""
        each, more = divmod(len(self.parts), count)
        if more:
            return []
        shape = (self.shape[0] // count, *self.shape[1:])
        return [Matrix(self._source, self.parts[each * i : each * (i + 1)], shape) for i in range(count)]

    def in_eight_bits(self) -> Packed | None:
        """Rounded by `kernels.pack_stored`, which gives what `quantised.to_int8` gives, if it can read these rows."""
        sizes = [(self._source.kind(part.name).name, self._source.shape(part.name)[0]) for part in self.parts]
        if any(part.pairs for part in self.parts) or not kernels.packs_stored(self.shape, sizes):
            return None
        packed, scales = kernels.pack_stored(self.shape, self._stored_slices())
        for part, own in zip(self.parts, scales.split([rows for _, rows in sizes]), strict=True):
            self._checked(part, own)
        return packed

    def _stored_slices(self) -> Iterator[tuple[int, str, Tensor]]:
        """(first row, name of the kind, rows as they are stored) in order."""
        place = 0
        for part in self.parts:
            rows, kind = self._source.shape(part.name)[0], self._source.kind(part.name).name
            step = max(STRIPS, SLICE // self.shape[1] // STRIPS * STRIPS)
            for start in range(0, rows, step):
                stop = min(start + step, rows)
                yield place + start, kind, self._source.raw(part.name, start, stop)
            place += rows

    def stored(self) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The rows as the checkpoint stores them, uint8 [N, bytes per row], and how to read some: of one part only."""
        (part,) = self.parts
        stored, kind = self._source.stored(part.name)
        return stored, kind.numbers

    def check(self) -> None:
        """BadWeights if there is NaN or infinity, of what is not read before it is needed."""
        for part in self.parts:
            rows, kind = self._source.shape(part.name)[0], self._source.kind(part.name)
            step = max(SLICE // self.shape[1], 1)
            for start in range(0, rows, step):
                raw = self._source.raw(part.name, start, min(start + step, rows))
                self._checked(part, kind.deciding(raw))

    def picked(self, rows: Tensor) -> Tensor:
        """The rows `rows` [n], fp32: of one part only."""
        (part,) = self.parts
        return self._source.picked(part.name, rows.tolist()).float()

    def four_bits(self) -> tuple[Tensor, Tensor] | None:
        """Codes uint8 [N, K], 0 … 15, and scales fp16 [N, K/32], if the checkpoint has them: (code - 8) · scale."""
        if self._source.precision != "codes":
            return None
        found = []
        for part in self.parts:
            stored, kind = self._source.stored(part.name)
            if kind is not FOUR_BITS:
                return None
            codes, scales = taken_apart(stored)
            self._checked(part, scales.float())
            found.append([_halves(half, part.pairs) if part.pairs else half for half in (codes, scales)])
        codes, scales = (torch.cat(halves) for halves in zip(*found, strict=True))
        return codes, scales

    def eight_bits(self) -> tuple[Tensor, Tensor] | None:
        """Codes int8 [N, K] and scales fp16 [N, K/32], if the checkpoint has Q8_0: code · scale. Of one part only."""
        (part,) = self.parts
        if self._source.kind(part.name) is not Q8_0:
            return None
        codes, scales = codes_and_scales(self._source.stored(part.name)[0])
        self._checked(part, scales.float())
        return codes, scales

    def _part(self, part: Part) -> Iterator[Tensor]:
        shape = self._source.shape(part.name)
        if len(shape) == 1:
            rows = self._checked(part, self._source.rows(part.name, 0, 1).view(-1, 1))
            yield _halves(rows, part.pairs) if part.pairs else rows
            return
        multiple = part.pairs.period if part.pairs else 1
        step = max(multiple, SLICE // shape[1] // multiple * multiple)
        for start in range(0, shape[0], step):
            rows = self._checked(part, self._source.rows(part.name, start, min(start + step, shape[0])))
            yield _halves(rows, part.pairs) if part.pairs else rows

    def _checked(self, part: Part, rows: Tensor) -> Tensor:
        low, high = torch.aminmax(rows)  # both are NaN as soon as one number is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise BadWeights(f"tensor {printable(part.name)} holds NaN or infinity")
        return rows


def _halves(rows: Tensor, pairs: Pairs) -> Tensor:
    """Rows [N, K] whose pairs alternate between two halves -> one half after the other."""
    periods: Tensor = rows.unflatten(0, (-1, pairs.period))
    before, alternating = periods.split([pairs.period - pairs.width, pairs.width], 1)
    halves = alternating.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)
    return torch.cat([before, halves], 1).flatten(0, 1)
