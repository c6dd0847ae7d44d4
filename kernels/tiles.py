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
    """Of K at a time; all of them are under way at once."""
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
_TILES: dict[int, Tiles] = {32: _WIDE, 16: _WIDE, 8: _EIGHT}


# On matrix units: the lanes are given, 32 columns a warp. How warps share the columns decides in which order they are
# added, so that an op has as many warps whatever the number of rows.
_MATRIX: dict[int, Tiles] = {
    bits: {
        "norm_linear": Tile(16, 32, 4),
        "norm_scores": Tile(32, 32, 4),
        "norm_swiglu": Tile(16, 32, 4),
        "norm_swiglu_block": Tile(16, 32, 4),
        "linear_add": Tile(8, 32, 4),
        "linear_add_long": Tile(8, 32, 8),  # four warps are as quick up to 8 rows; above, they run out of registers
    }
    for bits in (16, 8, 4)
}
_MATRIX[16]["norm_swiglu_block"] = Tile(8, 32, 4, registers=96)

BLOCK = range(2, 9)
"""Rows of activations for which a tile of its own pays."""


def matrix_tile(op: str, bits: int) -> Tile:
    """The tile of an op on matrix units, whose lanes are given: 32 columns a warp."""
    return _MATRIX[bits][op]


def tile(op: str, bits: int) -> Tile:
    """The tile of an op for a weight of so many bits."""
    return _TILES[bits][op]


@contextmanager
def trying(op: str, bits: int, tried: Tile) -> Iterator[None]:
    """Another tile inside the block, to measure it. Not for concurrent use."""
    table = _MATRIX if bits in _MATRIX else _TILES
    before = table[bits][op]
    table[bits][op] = tried
    try:
        yield
    finally:
        table[bits][op] = before
