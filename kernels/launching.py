"""How the Triton kernels here are started, and what they have in common.

All of them compute few rows (a block of tokens) with much weight: a program reads its part of the weight once, as
16-byte loads, and every row is multiplied with it in plain fp32 fused multiply-adds. No result depends on how many rows
are computed together: the additions of a row come in an order that its position alone decides, and the compiler is
told not to fuse any others.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Do kernels run in Triton's interpreter, on a CPU? Decided before they are imported."""

OVERLAP = "VIABLE_KERNEL_OVERLAP"
"""Environment variable: `0` starts each kernel when the one before it has ended."""

OLDEST_TRITON = (3, 5)
OLDEST_CARD = (8, 0)
"""Compute capability: bfloat16 arithmetic."""

DEPENDENT_LAUNCH = (9, 0)
"""Compute capability from which a kernel can start before the one in front of it has ended."""

TOGETHER = 4
"""Rows multiplied with a tile of weights by one program; wider passes read the tile again, from a cache."""


SIDE_BY_SIDE = 16
"""Rows of activations that matrix units multiply at once."""

MATRIX_ROWS = (8, 16, 32)
"""Rows that a program multiplies on matrix units, which take 16 at a time."""


def problem(device: str) -> str | None:
    """Why Triton kernels cannot run on a device type here, in one line; None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; `pip install viable-code[gpu]` installs it"
    if device == "cuda" and not torch.cuda.is_available():
        return "no CUDA device is usable here"
    import triton  # dozens of megabytes

    found = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if found < OLDEST_TRITON:
        return f"Triton {triton.__version__} is too old; {'.'.join(map(str, OLDEST_TRITON))} or newer is needed"
    if device == "cpu":
        return None if INTERPRETED else "Triton runs on a CPU only in its interpreter (TRITON_INTERPRET=1)"
    if torch.cuda.get_device_capability() < OLDEST_CARD:
        return f"{torch.cuda.get_device_name()} is too old for these kernels; they need compute capability 8.0"
    return None


@cache
def runs() -> bool:
    """Can Triton kernels run here: on the GPU, or in the interpreter?"""
    return problem("cpu" if INTERPRETED else "cuda") is None


@cache
def has_matrix_units() -> bool:
    """Can kernels written in Gluon, Triton's lower language, run here? The interpreter does not know it."""
    return not INTERPRETED and runs()


@cache
def overlaps() -> bool:
    """May a kernel start, and fetch its weights, while the one before it still computes?

    Programmatic dependent launch: `griddepcontrol` in the PTX manual. It is a matter of speed alone.
    """
    able = not INTERPRETED and torch.cuda.is_available() and torch.cuda.get_device_capability() >= DEPENDENT_LAUNCH
    chosen = able and os.environ.get(OVERLAP, "1") != "0"
    log.info("kernels %s", "overlap" if chosen else "run one after the other")
    return chosen


def options(
    warps: int, registers: int | None = None, *, first: bool = False, stages: int | None = None
) -> dict[str, Any]:
    """Keyword arguments of a launch. registers: the most per thread. stages: how far loops are unrolled ahead.

    first: what runs before may be anything, not only one of these kernels.
    """
    if INTERPRETED:
        return {"OVERLAP": False}
    overlap = overlaps()
    chosen: dict[str, Any] = {"OVERLAP": overlap, "num_warps": warps, "enable_fp_fusion": False}
    if overlap and not first:
        chosen["launch_pdl"] = True
    if registers is not None:
        chosen["maxnreg"] = registers
    if stages is not None:
        chosen["num_stages"] = stages
    return chosen


def rows_together(rows: int) -> tuple[int, int]:
    """How many rows a program multiplies without matrix units, and how many programs take them in turns.

    There is no loop over rows in a kernel: the compiler would widen all weights in front of it, and run out of
    registers.
    """
    together = min(rows, TOGETHER)
    return together, -(-rows // together)


def tokens_together(rows: int) -> tuple[int, int]:
    """How many rows a program multiplies on matrix units, and how many programs take them in turns."""
    together = next((some for some in MATRIX_ROWS if some >= rows), MATRIX_ROWS[-1])
    return together, -(-rows // together)


def tokens_of(rows: int) -> int:
    """Rows that kernels with tiles of eight rows of a weight multiply at a time: of more than `SIDE_BY_SIDE`, eight.

    Eight stand there twice, which costs half of the registers.
    """
    return SIDE_BY_SIDE if 8 < rows <= SIDE_BY_SIDE else 8


def rows_of(x: Tensor) -> Tensor:
    """The same rows with neighbouring features beside each other, which they nearly always are already."""
    return x if x.stride(-1) == 1 else x.contiguous()
