"""Attention over one chunk of keys per program, or every eighth, in bfloat16.

A program has one group and one chunk at a time: the heads of the group are the rows of its matrix products, which are
sixteen. As many rows of the block as fit there are a program's, so that a chunk is read for all of them, and few
programs stand beside the kernel that comes next. Keys and values are under way to shared memory before the kernel in
front of this one has ended; where a chunk has positions that this pass adds, they are copied again when they are
there, from a nearer memory.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels import attend_triton
from kernels.finishing import MOST_CHUNKS
from kernels.launching import options
from kernels.matrix_gluon import copy_async

WARPS = 4


@gluon.constexpr_function
def scores_layout(warps):
    """[16 heads, keys], and [16 heads, D]"""
    return gl.NVMMADistributedLayout([2, 0], [1, warps], [16, 8])


@gluon.constexpr_function
def copied_layout(warps, width):
    """[keys, D], sixteen bytes a thread."""
    return gl.BlockedLayout([1, 8], [256 // width, width // 8], [warps, 1], [1, 0])


@gluon.constexpr_function
def room_layout(width):
    return gl.SwizzledSharedLayout(8, 64 // min(width, 64), min(width // 8, 8), [1, 0])


@gluon.jit
def _bring(
    room_k, room_v, keys_ptr, values_ptr, first, last,
    WIDTH: gl.constexpr, CHUNK: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """A group's keys and values from `first` on, under way; what lies behind `last` is `last` again."""
    L: gl.constexpr = copied_layout(WARPS, WIDTH)
    s = gl.arange(0, CHUNK, layout=gl.SliceLayout(1, L))
    d = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, L))
    at = gl.minimum(first + s, last)[:, None] * WIDTH + d[None, :]
    copy_async(room_k, keys_ptr + at)
    copy_async(room_v, values_ptr + at)
    async_copy.commit_group()


@gluon.jit
def _add(
    q, room_k, room_v, first, here, scale, top, total, mean,
    WIDTH: gl.constexpr, CHUNK: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """A chunk that has arrived, added to the highest score, the sum and the weighted values so far.

    here: [16], what each row of the products sees at most.
    """
    L: gl.constexpr = scores_layout(WARPS)
    keys = room_k.permute([1, 0]).load(gl.DotOperandLayout(1, L, 2))
    scores = mma_v2(q, keys, gl.zeros([16, CHUNK], gl.float32, layout=L))
    s = first + gl.arange(0, CHUNK, layout=gl.SliceLayout(0, L))
    scores = gl.where(s[None, :] <= here[:, None], scores * scale, float("-inf"))
    higher = gl.maximum(top, gl.max(scores, 1))
    before = gl.exp2(top - higher)
    weights = gl.exp2(scores - higher[:, None])
    total = total * before + gl.sum(weights, 1)
    values = room_v.load(gl.DotOperandLayout(1, L, 2))
    shares = gl.convert_layout(weights.to(gl.bfloat16), gl.DotOperandLayout(0, L, 2))
    return higher, total, mma_v2(shares, values, mean * before[:, None])


@gluon.jit(do_not_specialize=["rows"])
def _kernel(
    q_ptr, keys_ptr, values_ptr, start_ptr, means_ptr, sums_ptr, rows, capacity, scale,
    HEADS: gl.constexpr, GROUPS: gl.constexpr, WIDTH: gl.constexpr, CHUNK: gl.constexpr, CHUNKS: gl.constexpr,
    LONG: gl.constexpr, WARPS: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    PER_GROUP: gl.constexpr = HEADS // GROUPS
    BESIDE: gl.constexpr = 16 // PER_GROUP
    L: gl.constexpr = scores_layout(WARPS)
    chunk = gl.program_id(0)
    group = gl.program_id(1)
    row = gl.program_id(2) * BESIDE
    # The start was written before the first kernel of the pass began, older rows of the cache before that.
    start = gl.load(start_ptr)
    end = start + gl.minimum(row + BESIDE, rows) - 1
    if chunk * CHUNK <= end:  # the others have nothing to wait for
        room_k = gl.allocate_shared_memory(gl.bfloat16, [CHUNK, WIDTH], room_layout(WIDTH))
        room_v = gl.allocate_shared_memory(gl.bfloat16, [CHUNK, WIDTH], room_layout(WIDTH))
        of_group = group.to(gl.int64) * capacity * WIDTH
        keys_ptr += of_group
        values_ptr += of_group
        first = chunk * CHUNK
        last = gl.minimum(end, capacity - 1)
        old = gl.maximum(gl.minimum(start, capacity) - 1, 0)
        _bring(room_k, room_v, keys_ptr, values_ptr, first, old, WIDTH, CHUNK, WARPS)
        if OVERLAP:
            gdc_wait()
        Q: gl.constexpr = gl.DotOperandLayout(0, L, 2)
        i = gl.arange(0, 16, layout=gl.SliceLayout(1, Q))[:, None]
        d = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, Q))[None, :]
        own = row + i // PER_GROUP
        line = own * HEADS + group * PER_GROUP + i % PER_GROUP
        there = (i < BESIDE * PER_GROUP) & (own < rows) & (d < WIDTH)
        q = gl.load(q_ptr + line * WIDTH + d, mask=there, other=0.0)
        h = gl.arange(0, 16, layout=gl.SliceLayout(1, L))
        here = start + row + h // PER_GROUP
        async_copy.wait_group(0)
        if first + CHUNK > start:
            _bring(room_k, room_v, keys_ptr, values_ptr, first, last, WIDTH, CHUNK, WARPS)
        async_copy.wait_group(0)
        top = gl.full([16], float("-inf"), gl.float32, layout=gl.SliceLayout(1, L))
        total = gl.zeros([16], gl.float32, layout=gl.SliceLayout(1, L))
        mean = gl.zeros([16, WIDTH], gl.float32, layout=L)
        top, total, mean = _add(q, room_k, room_v, first, here, scale, top, total, mean, WIDTH, CHUNK, WARPS)
        if LONG:  # later chunks of this program, one after the other
            for later in range(first + CHUNKS * CHUNK, end + 1, CHUNKS * CHUNK):
                # Rooms of their own lie where those before have been: what `_add` needs beside them does, too.
                more_k = gl.allocate_shared_memory(gl.bfloat16, [CHUNK, WIDTH], room_layout(WIDTH))
                more_v = gl.allocate_shared_memory(gl.bfloat16, [CHUNK, WIDTH], room_layout(WIDTH))
                _bring(more_k, more_v, keys_ptr, values_ptr, later, last, WIDTH, CHUNK, WARPS)
                async_copy.wait_group(0)
                top, total, mean = _add(q, more_k, more_v, later, here, scale, top, total, mean, WIDTH, CHUNK, WARPS)
        e = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, L))[None, :]
        mine = row + h // PER_GROUP
        at = (mine * HEADS + group * PER_GROUP + h % PER_GROUP) * CHUNKS + chunk
        sees = (h < BESIDE * PER_GROUP) & (mine < rows) & (first <= here)
        result = (mean / total[:, None]).to(gl.bfloat16)
        gl.store(means_ptr + at[:, None] * WIDTH + e, result, mask=sees[:, None] & (e < WIDTH))
        gl.store(sums_ptr + at, top + gl.log2(total), mask=sees)


def attend(q: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    groups, capacity, width = keys.shape
    heads = q.shape[1] // width
    if keys.dtype != torch.bfloat16 or heads // groups > 16 or not 32 <= width <= 128 or chunk < 16 * WARPS:
        return attend_triton.attend(q, keys, values, start, chunk)
    chunks = min(triton.cdiv(capacity, chunk), MOST_CHUNKS)
    means = torch.empty(len(q), heads, chunks, width, dtype=q.dtype, device=q.device)
    sums = torch.empty(len(q), heads, chunks, dtype=torch.float32, device=q.device)
    given = arguments(q.contiguous(), keys, values, start, chunk, means, sums)
    _kernel[(chunks, groups, triton.cdiv(len(q), 16 // (heads // groups)))](**given, **options(WARPS))
    return means, sums


def arguments(
    q: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int, means: Tensor, sums: Tensor
) -> dict[str, Any]:
    """What the kernel is given, by name."""
    groups, capacity, width = keys.shape
    _, heads, chunks, _ = means.shape
    return {
        "q_ptr": q, "keys_ptr": keys, "values_ptr": values, "start_ptr": start, "means_ptr": means, "sums_ptr": sums,
        "rows": len(q), "capacity": capacity, "scale": width**-0.5 * 1.4426950408889634,
        "HEADS": heads, "GROUPS": groups, "WIDTH": width, "CHUNK": chunk, "CHUNKS": chunks,
        "LONG": chunks * chunk < capacity, "WARPS": WARPS,
    }  # fmt: skip
