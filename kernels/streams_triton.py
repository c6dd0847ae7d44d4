"""What the products without matrix units have in common: how a weight is read, and how it is multiplied.

A weight is a stream of chunks. Of a chunk, a program holds a tile [BLOCK_N, LANES] of numbers (16 or 32 bits) or of
codes (8 bits).
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.weights import Stream


@triton.jit
def fetch(weight_ptr, n, lanes, i, N, K: tl.constexpr, LANES: tl.constexpr):
    """Chunk i of rows n."""
    here = lanes + i * LANES
    at = n.to(tl.int64)[:, None] * K
    return tl.load(weight_ptr + at + here, mask=(n < N)[:, None] & (here < K), other=0)


def whole(of: Stream) -> Stream:
    """A weight that these products can read."""
    if of.bits == 4:
        raise ValueError(
            "weights of four bits are multiplied on matrix units, which Triton's interpreter does not have"
        )
    return of
