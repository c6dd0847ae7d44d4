"""How much of a weight one program takes: by op, chosen by measurement (docs/gpu.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Tile(NamedTuple):
    """Of a weight [N, K]."""

    rows: int
    """Of N, in one part."""
    columns: int
    """Of K, at a time; all columns are under way at once."""
    warps: int
    parts: int = 1
    """Blocks of rows that share what is loaded of the activations."""
    registers: int | None = None
    """The most per thread, where the compiler would take so many that few programs fit a multiprocessor."""


VOCABULARY = 16_384
"""N from which on a weight is a vocabulary's."""

LONG = 2048
"""K from which on a program takes fewer rows, each spread over more threads."""

_TILES = {
    "norm_linear": Tile(8, 128, 4),
    "norm_linear_vocabulary": Tile(8, 128, 4, parts=2),
    "norm_swiglu": Tile(8, 128, 4),
    "linear_add": Tile(4, 128, 2),
    "linear_add_long": Tile(4, 256, 4),
}


def tile(op: str) -> Tile:
    """The tile of an op."""
    return _TILES[op]


@contextmanager
def trying(op: str, tried: Tile) -> Iterator[None]:
    """Another tile inside the block, to measure it. Not for concurrent use."""
    before = _TILES[op]
    _TILES[op] = tried
    try:
        yield
    finally:
        _TILES[op] = before
