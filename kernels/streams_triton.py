"""What the products have in common: how a weight is read, and how it is multiplied, by its bits.

A weight is a stream of chunks. Of a chunk, a program holds a tile [BLOCK_N, LANES] of numbers (16 or 32 bits), of codes
(8 bits), or of words of eight codes (4 bits). Code p of word l belongs to column p·LANES + l of its chunk, so that the
activations come in PIECES tiles of neighbours. The columns of a group share a factor: step and offset, bfloat16 each,
in one word.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def fetch(weight_ptr, n, lanes, i, N, COLUMNS: tl.constexpr, LANES: tl.constexpr):
    """Chunk i of rows n; COLUMNS tile entries make a row."""
    here = lanes + i * LANES
    at = n.to(tl.int64)[:, None] * COLUMNS
    return tl.load(weight_ptr + at + here, mask=(n < N)[:, None] & (here < COLUMNS), other=0)


@triton.jit
def fetch_factor(factor_ptr, n, lanes, g, N, GROUPS: tl.constexpr, INTERPRETED: tl.constexpr):
    """Factor g of rows n, in every lane."""
    at = tl.minimum(n, N - 1).to(tl.int64)[:, None] * GROUPS + g + lanes * 0
    if INTERPRETED:
        return tl.load(factor_ptr + at)
    else:
        # The four neighbouring lanes of a thread want the same word: one load and three copies. A plain load would be
        # laid out for itself, and go through shared memory to where it is needed.
        return tl.inline_asm_elementwise(
            "ld.global.nc.b32 $0, [$4]; mov.b32 $1, $0; mov.b32 $2, $0; mov.b32 $3, $0;",
            "=r,=r,=r,=r,l,l,l,l",
            [factor_ptr + at],
            dtype=tl.int32,
            is_pure=True,
            pack=4,
        )


@triton.jit
def multiply(
    dot, xs, weight, factor_ptr, n, lanes, i, N,
    K: tl.constexpr, LANES: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """dot + x · chunk i of rows n. xs: the PIECES tiles of activations that meet it."""
    if BITS == 4:
        TURNS: tl.constexpr = GROUP // LANES
        for turn in tl.static_range(8 // TURNS):
            total = xs[turn * TURNS]
            product = xs[turn * TURNS] * ((weight >> (4 * turn * TURNS)) & 15).to(tl.float32)
            for p in tl.static_range(turn * TURNS + 1, turn * TURNS + TURNS):
                total += xs[p]
                product = tl.fma(xs[p], ((weight >> (4 * p)) & 15).to(tl.float32), product)
            g = i * (8 // TURNS) + turn
            factor = fetch_factor(factor_ptr, n, lanes, g, N, K // GROUP, INTERPRETED)
            step = (factor << 16).to(tl.float32, bitcast=True)
            offset = (factor & -65536).to(tl.float32, bitcast=True)
            # (code - 8) · step + offset
            dot = tl.fma(product, step, tl.fma(total, tl.fma(step, -8.0, offset), dot))
        return dot
    else:
        return tl.fma(xs[0], weight.to(tl.float32), dot)
