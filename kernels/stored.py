"""A matrix in eight bits from what a checkpoint keeps of it, without its numbers being there in between.

The twin is what happens where no backend can do it: numbers are read, rounded by `model.quantised.to_int8` and packed
by `kernels.pack_int8`, which gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from kernels import backend
from kernels.backend import Packed


def packs_stored(shape: tuple[int, ...], parts: Sequence[tuple[str, int]]) -> bool:
    """Whether `int8_linear` on a CPU can have a weight [N, K] of parts: (name of how rows are kept, how many)."""
    chosen = backend.implementation("int8_linear", "cpu")
    return hasattr(chosen, "packs_stored") and len(shape) == 2 and bool(chosen.packs_stored(shape, parts))


def prepare_stored(kinds: Iterable[str]) -> None:
    """Begin to compile what `pack_stored` takes for rows of these kinds, beside what goes on here."""
    chosen = backend.implementation("int8_linear", "cpu")
    if hasattr(chosen, "prepare_stored"):
        chosen.prepare_stored(kinds)


def pack_stored(shape: tuple[int, ...], slices: Iterable[tuple[int, str, Tensor]]) -> tuple[Packed, Tensor]:
    """A weight [N, K] for `int8_linear` on a CPU, and its scales fp32 [N]: not finite where a number of the row is not.

    slices: (first row, name of how rows are kept, the rows uint8 [n, bytes per row]). They cover all rows once, in any
    order, sixteen rows or a multiple each.
    """
    chosen = backend.implementation("int8_linear", "cpu")
    data, scales = chosen.pack_stored(shape, slices)
    return Packed(chosen, (shape[0], shape[1]), data), scales
