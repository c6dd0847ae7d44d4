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


@triton.jit
def scaled(codes, factor_ptr, n, lanes, i, N, K: tl.constexpr, GROUP: tl.constexpr, LANES: tl.constexpr):
    """What chunk i of rows n stands for, bfloat16, where GROUP columns of a row share a factor; see `weights.Q8`."""
    GROUPS: tl.constexpr = (K + 4 * GROUP - 1) // (4 * GROUP) * 4  # `kernels.weights.PADDED` is 4
    here = lanes + i * LANES
    at = n[:, None].to(tl.int64) * GROUPS + here // GROUP
    factors = tl.load(factor_ptr + at, mask=(n < N)[:, None] & (here < K), other=0.0)
    return (codes.to(tl.float32) * factors.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def row_of_table(table_ptr, factor_ptr, number, k, K: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr):
    """Row `number` of a table [V, K] (`kernels.weights.Table`) at columns k, fp32."""
    row = number.to(tl.int64)
    x = tl.load(table_ptr + row * K + k, mask=k < K, other=0).to(tl.float32)
    if BITS == 8:
        if not GROUP:
            x *= tl.load(factor_ptr + row)
        else:
            GROUPS: tl.constexpr = (K + 4 * GROUP - 1) // (4 * GROUP) * 4  # `kernels.weights.PADDED` is 4
            factors = tl.load(factor_ptr + row * GROUPS + k // GROUP, mask=k < K, other=0.0)
            x = (x * factors.to(tl.float32)).to(tl.bfloat16).to(tl.float32)
    return x


def whole(of: Stream) -> Stream:
    """A weight that these products can read."""
    if of.bits == 4:
        raise ValueError(
            "weights of four bits are multiplied on matrix units, which Triton's interpreter does not have"
        )
    return of
