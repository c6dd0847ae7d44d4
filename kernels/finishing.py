"""What `finish` reads of a layer: all behind its attention."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from kernels.weights import Weight

MOST_CHUNKS = 8
"""Chunks of keys that attention is put together from: chunk n of a long text is added to chunk n - 8."""


class Finish(NamedTuple):
    """Output projection and feed-forward. Letters: K width, H heads, D head width, F width of the feed-forward."""

    out: Weight  # [K, H·D]
    out_bias: Tensor | None  # [K]
    gain: Tensor  # [K], of the norm before the feed-forward
    eps: float
    gate_up: Weight  # [2F, K], gate before up
    gate_up_bias: Tensor | None  # [2F]
    down: Weight  # [K, F]
    down_bias: Tensor | None  # [K]
    counter: Tensor
    """int32 [1], zero between launches: programs that have come to barriers. One for all layers of one stream."""
