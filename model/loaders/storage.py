"""How a safetensors checkpoint keeps one of its tensors: as numbers, as FP8 in blocks, or as codes of four bits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from model.errors import BadWeights, UnsupportedModel, printable
from model.loaders.ggml import KINDS, Kind


class Stored(Protocol):
    """One tensor of our names, in whatever the file has for it."""

    shape: tuple[int, ...]
    precision: str  # what its numbers are kept in: a safetensors dtype, "quantised", or "codes" of four bits
    kind: Kind  # of its rows' bytes

    def rows(self, start: int, stop: int) -> Tensor:
        """Numbers [stop - start, columns] in a float dtype; a vector is one row."""
        ...

    def raw(self, start: int, stop: int) -> Tensor:
        """Rows of a matrix as bytes, uint8 [stop - start, bytes per row]."""
        ...


FLOATS = {kind.name: kind for kind in KINDS.values() if not kind.quantised}


class Numbers:
    """Floating point as it is."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self.shape = tuple(view.get_shape())
        self.precision = view.get_dtype()
        self.kind = FLOATS[self.precision]

    def rows(self, start: int, stop: int) -> Tensor:
        rows: Tensor = self._view[start:stop] if len(self.shape) > 1 else self._view[:].unsqueeze(0)
        return rows

    def raw(self, start: int, stop: int) -> Tensor:
        return self.rows(start, stop).view(torch.uint8)


class Blocks:
    """FP8 numbers (e4m3), each block of which has a factor.

    Source: DeepSeek-V3 Technical Report, 2024, section 3.3.2; `weight_scale_inv` of its checkpoint.
    """

    precision = "quantised"
    kind = FLOATS["F32"]  # as which they are given out

    def __init__(self, name: str, view: Any, factors: Any, block: tuple[int, int]) -> None:
        self._view = view
        self._block = block
        self.shape = tuple(view.get_shape())
        expected = [math.ceil(size / step) for size, step in zip(self.shape, block, strict=False)]
        if len(self.shape) != 2 or list(factors.get_shape()) != expected or factors.get_dtype() != "F32":
            raise BadWeights(
                f"tensor {printable(name)}{FACTORS} is {factors.get_dtype()} {list(factors.get_shape())};"
                f" expected F32 {expected}"
            )
        self._factors: Tensor = factors[:]

    def rows(self, start: int, stop: int) -> Tensor:
        tall, wide = self._block
        numbers: Tensor = self._view[start:stop].float()
        columns = self._factors.repeat_interleave(wide, 1)[:, : self.shape[1]]
        return numbers * columns[torch.arange(start, start + len(numbers)) // tall]

    def raw(self, start: int, stop: int) -> Tensor:
        return self.rows(start, stop).view(torch.uint8)


def _codes(blocks: Tensor) -> Tensor:
    """(code - 8) · scale: a block is an fp16 scale and 32 codes, two in a byte, the first in its low half."""
    scale = blocks[..., :2].contiguous().view(torch.float16).float()
    packed = blocks[..., 2:]
    return scale * (torch.stack([packed & 15, packed >> 4], -1).flatten(-2).to(torch.int8) - 8)


FOUR_BITS = Kind("codes of four bits", 32, 18, _codes, (0,))


def taken_apart(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of FOUR_BITS as bytes -> codes uint8 [N, K], 0 … 15, and scales fp16 [N, K/32]."""
    blocks = rows.unflatten(-1, (-1, FOUR_BITS.size))
    packed = blocks[..., 2:]
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(-3)
    return codes, blocks[..., :2].contiguous().view(torch.float16).squeeze(-1)


class Codes:
    """Codes of four bits, two in a byte, and an fp16 scale for every 32 of a row: (code - 8) · scale."""

    precision = "codes"
    kind = FOUR_BITS

    def __init__(self, name: str, codes: Any, scales: Any) -> None:
        self._codes, self._scales = codes, scales
        shape, groups = codes.get_shape(), scales.get_shape()
        if len(shape) != 2 or len(groups) != 2 or [shape[0], shape[1] * 2] != [groups[0], groups[1] * 32]:
            raise BadWeights(f"tensor {printable(name)} has codes {list(shape)} and scales {list(groups)}")
        if (codes.get_dtype(), scales.get_dtype()) != ("U8", "F16"):
            raise BadWeights(
                f"tensor {printable(name)} has codes in {codes.get_dtype()}, scales in {scales.get_dtype()}"
            )
        self.shape: tuple[int, ...] = (shape[0], shape[1] * 2)

    def rows(self, start: int, stop: int) -> Tensor:
        return FOUR_BITS.numbers(self.raw(start, stop))

    def raw(self, start: int, stop: int) -> Tensor:
        scales = self._scales[start:stop].unsqueeze(-1).view(torch.uint8)
        return torch.cat([scales, self._codes[start:stop].unflatten(-1, (-1, 16))], -1).flatten(-2)


FACTORS, FP8 = "_scale_inv", "F8_E4M3"


def stored(views: Mapping[str, Any], block: tuple[int, int] | None) -> dict[str, Stored]:
    """Name -> tensor for the views of all files of a checkpoint.

    block: the rows and columns that share a factor of FP8 numbers; None where the configuration names no FP8.
    """
    found: dict[str, Stored] = {}
    for name in _plain(views):
        view = views.get(name)
        if view is None:
            found[name] = Codes(name, views[f"{name}.codes"], views[f"{name}.scales"])
        elif view.get_dtype() in FLOATS:
            found[name] = Numbers(view)
        elif view.get_dtype() == FP8 and block and f"{name}{FACTORS}" in views:
            found[name] = Blocks(name, view, views[f"{name}{FACTORS}"], block)
        elif view.get_dtype() == FP8:
            raise UnsupportedModel(f"tensor {printable(name)} is in FP8 without {name}{FACTORS} or a block size")
        else:
            raise UnsupportedModel(
                f"tensor {printable(name)} is stored as {view.get_dtype()}; known: {', '.join(FLOATS)}, {FP8}"
            )
    return found


def _plain(views: Mapping[str, Any]) -> Iterable[str]:
    """The tensors' own names, without those of what belongs to them."""
    for name in views:
        if name.endswith(".codes") and f"{name.removesuffix('.codes')}.scales" in views:
            yield name.removesuffix(".codes")
        elif name.endswith(".scales") and f"{name.removesuffix('.scales')}.codes" in views:
            continue
        elif not (name.endswith(FACTORS) and _is_fp8(views.get(name.removesuffix(FACTORS)))):
            yield name


def _is_fp8(view: Any) -> bool:
    return view is not None and view.get_dtype() == FP8
