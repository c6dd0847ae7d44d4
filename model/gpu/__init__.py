"""A decoder as a GPU computes it quickest: fused kernels for blocks of few tokens, recorded passes, static memory.

It reads the weights of a `Decoder` where they are. On a CPU the same code runs on the kernels' plain twins, unrecorded:
that is how it is tested.
"""

from __future__ import annotations

from kernels import launching
from model.gpu.block import BlockPass, unsupported
from model.gpu.prefill import Prefill
from model.gpu.record import Recorded

__all__ = ["BlockPass", "Prefill", "Recorded", "problem", "unsupported"]


def problem() -> str | None:
    """Why no GPU of this machine can be used, in one line; None if one can."""
    return launching.problem("cuda")
