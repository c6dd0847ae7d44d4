"""The rest of a layer behind its attention, op by op."""

from __future__ import annotations

from torch import Tensor

from kernels import block
from kernels.finishing import Finish
from kernels.weights import activations


def finish(x: Tensor, means: Tensor, sums: Tensor, start: Tensor, chunk: int, of: Finish) -> Tensor:
    seen = block.merge(means, sums, start, chunk, activations(of.out))
    x = block.linear_add(x, seen, of.out, of.out_bias)
    inner = block.norm_swiglu(x, of.gain, of.eps, of.gate_up, of.gate_up_bias)
    return block.linear_add(x, inner, of.down, of.down_bias)
