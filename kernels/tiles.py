"""How much of a weight one program takes: by op and bits, chosen by measurement (docs/gpu.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Tile(NamedTuple):
    """Of a weight [N, K]."""

    rows: int
    """Of N, in one part."""
    lanes: int
    """Of K, or of its words of four-bit codes, at a time; all of them are under way at once."""
    warps: int
    parts: int = 1
    """Blocks of rows that share what is loaded of the activations."""
    registers: int | None = None
    """The most per thread, where the compiler would take so many that few programs fit a multiprocessor."""


VOCABULARY = 16_384
"""N from which on a weight is a vocabulary's."""

LONG = 2048
"""K from which on a program takes fewer rows, each spread over more threads."""

Tiles = dict[str, Tile]

_WIDE: Tiles = {
    "norm_linear": Tile(8, 128, 4),
    "norm_linear_vocabulary": Tile(8, 128, 4, parts=2),
    "norm_swiglu": Tile(8, 128, 4),
    "linear_add": Tile(4, 128, 2),
    "linear_add_long": Tile(4, 256, 4),
}
_EIGHT: Tiles = {
    "norm_linear": Tile(8, 128, 2),
    "norm_linear_vocabulary": Tile(16, 128, 4),
    "norm_swiglu": Tile(8, 128, 2),
    "linear_add": Tile(4, 128, 1),
    "linear_add_long": Tile(4, 512, 4),
}
_FOUR: Tiles = {
    "norm_linear": Tile(8, 16, 1),
    "norm_linear_vocabulary": Tile(32, 16, 4),
    "norm_swiglu": Tile(8, 16, 1),
    "linear_add": Tile(8, 16, 1),
    "linear_add_long": Tile(4, 32, 1),
}
_TILES: dict[int, Tiles] = {32: _WIDE, 16: _WIDE, 8: _EIGHT, 4: _FOUR}


def tile(op: str, bits: int) -> Tile:
    """The tile of an op for a weight of so many bits."""
    return _TILES[bits][op]


@contextmanager
def trying(op: str, bits: int, tried: Tile) -> Iterator[None]:
    """Another tile inside the block, to measure it. Not for concurrent use."""
    before = _TILES[bits][op]
    _TILES[bits][op] = tried
    try:
        yield
    finally:
        _TILES[bits][op] = before
