"""What chosen experts end in, weighted, and the residual sum: a program has some features of one row, of all experts.

The matrices of all slots are under way at once: one after the other, each would wait for the memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.experts_triton import at_once, fetch, fetch_factors, lanes_of, times, words_of
from kernels.launching import options, rows_of
from kernels.weights import Weight, shape_of, stream

BLOCK = 8
"""Features that a program computes."""


@triton.jit
def _kernel(
    x_ptr, inner_ptr, ids_ptr, gates_ptr, weight_ptr, factor_ptr, shared_ptr, shared_factor_ptr, out_ptr, x_stride,
    N: tl.constexpr, EXPERTS: tl.constexpr, SLOTS: tl.constexpr, SHARES: tl.constexpr, WIDTH: tl.constexpr,
    LINE: tl.constexpr, LANES: tl.constexpr, WORDS: tl.constexpr, BITS: tl.constexpr,
    SHARED_LINE: tl.constexpr, SHARED_LANES: tl.constexpr, SHARED_WORDS: tl.constexpr, SHARED_BITS: tl.constexpr,
    BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    row = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = (n < N)[:, None]
    inner = inner_ptr + row * ((SLOTS + SHARES) * WIDTH)
    if OVERLAP:
        gdc_wait()
    y = tl.load(x_ptr + row * x_stride + n, mask=n < N, other=0.0)
    dot = tl.zeros([BLOCK, LANES], tl.float32)
    for first in range(0, LINE, LANES):
        lane = first + tl.arange(0, LANES)
        numbers = ()
        factors = ()
        for slot in tl.static_range(SLOTS):
            expert = tl.load(ids_ptr + row * SLOTS + slot)
            there = valid & (lane < tl.where(expert < EXPERTS, LINE, 0))[None, :]
            rows = expert.to(tl.int64) * N + n
            numbers += (fetch(weight_ptr, rows, there, lane, LINE),)
            factors += (fetch_factors(factor_ptr, rows, there, lane, LINE, WORDS, BITS),)
        for slot in tl.static_range(SLOTS):
            # What a slot that is not used would have given was not written.
            limit = tl.where(tl.load(ids_ptr + row * SLOTS + slot) < EXPERTS, LINE, 0)
            gate = tl.load(gates_ptr + row * SLOTS + slot)
            more, _ = times(
                numbers[slot], factors[slot], inner + slot * WIDTH, inner, lane, limit, False, BITS
            )  # fmt: skip
            dot += more * gate
    y += tl.sum(dot, 1)
    if SHARES > 0:
        common = tl.zeros([BLOCK, SHARED_LANES], tl.float32)
        rows = n.to(tl.int64)
        for first in range(0, SHARED_LINE, SHARED_LANES):
            lane = first + tl.arange(0, SHARED_LANES)
            there = valid & (lane < SHARED_LINE)[None, :]
            of_shared = fetch(shared_ptr, rows, there, lane, SHARED_LINE)
            factor = fetch_factors(shared_factor_ptr, rows, there, lane, SHARED_LINE, SHARED_WORDS, SHARED_BITS)
            more, _ = times(of_shared, factor, inner + SLOTS * WIDTH, inner, lane, SHARED_LINE, False, SHARED_BITS)
            common += more
        y += tl.sum(common, 1)
    tl.store(out_ptr + row * N + n, y, mask=n < N)


def experts_add(x: Tensor, inner: Tensor, ids: Tensor, gates: Tensor, weight: Weight, shared: Weight | None) -> Tensor:
    x = rows_of(x)
    inner, ids, gates = inner.contiguous(), ids.contiguous(), gates.contiguous()
    of, common = stream(weight), stream(weight if shared is None else shared)
    count, width, slots = x.shape[1], of.shape[1], ids.shape[1]
    shares = 0 if shared is None else shape_of(shared)[1] // width
    out = torch.empty(len(x), count, dtype=torch.float32, device=x.device)
    _kernel[(triton.cdiv(count, BLOCK), len(x))](
        x, inner, ids, gates, of.numbers, of.factors, common.numbers, common.factors, out, x.stride(0),
        N=count, EXPERTS=of.shape[0] // count, SLOTS=slots, SHARES=shares, WIDTH=width,
        LINE=lanes_of(of), LANES=at_once(lanes_of(of), slots * BLOCK), WORDS=words_of(of), BITS=of.bits,
        SHARED_LINE=lanes_of(common), SHARED_LANES=at_once(lanes_of(common), BLOCK),
        SHARED_WORDS=words_of(common), SHARED_BITS=common.bits, BLOCK=BLOCK, **options(4),
    )  # fmt: skip
    return out
