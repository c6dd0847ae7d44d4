"""The attention of `layers_gluon`: one row, group and chunk of keys at a time, and the chunks put together.

The heads of a group are the rows of a product on matrix units, sixteen at a time. Keys and values of earlier passes
are fetched before the barrier, those of this pass behind it.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from kernels.matrix_gluon import chunks_of, loaded_layout, steps_of, widened

TURN = gl.constexpr(4)
"""Chunks of one row that are put together at a time."""


@gluon.constexpr_function
def scores_layout(warps):
    """[16 heads, keys], and [16 heads, D]"""
    return gl.NVMMADistributedLayout([2, 0], [1, warps], [16, 8])


@gluon.constexpr_function
def keys_layout(warps):
    """[D, keys], eight neighbouring numbers of a key a thread."""
    return gl.DotOperandLayout(1, scores_layout(warps), 8)


@gluon.constexpr_function
def values_layout(warps):
    """[keys, D]"""
    return gl.DotOperandLayout(1, scores_layout(warps), 2)


@gluon.constexpr_function
def columns_layout(warps):
    """[WARPS, 8 rows, 4 threads, 8 columns]: what `loaded_layout` has, columns of one head beside each other."""
    return gl.BlockedLayout([1, 1, 1, 8], [1, 8, 4, 1], [warps, 1, 1, 1], [3, 2, 1, 0])


@gluon.jit
def _of_item(item, rows, GROUPS: gl.constexpr):
    """Row, group and chunk of an item of work."""
    return item // GROUPS % rows, item % GROUPS, item // GROUPS // rows


@gluon.jit
def _positions(chunk, CHUNK: gl.constexpr, WARPS: gl.constexpr):
    """Of keys [1, CHUNK] and of values [CHUNK, 1]."""
    key = chunk * CHUNK + gl.arange(0, CHUNK, layout=gl.SliceLayout(0, keys_layout(WARPS)))[None, :]
    value = chunk * CHUNK + gl.arange(0, CHUNK, layout=gl.SliceLayout(1, values_layout(WARPS)))[:, None]
    return key, value


@gluon.jit
def _places(key, value, group, capacity, WIDTH: gl.constexpr, WARPS: gl.constexpr):
    """Where keys [D, CHUNK] and values [CHUNK, D] of positions are kept."""
    of_key = gl.arange(0, WIDTH, layout=gl.SliceLayout(1, keys_layout(WARPS)))[:, None]
    of_value = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, values_layout(WARPS)))[None, :]
    base = group * capacity * WIDTH
    return base + key * WIDTH + of_key, base + value * WIDTH + of_value


@gluon.jit
def fetch_item(
    item, keys_ptr, values_ptr, last, rows, capacity,
    GROUPS: gl.constexpr, WIDTH: gl.constexpr, CHUNK: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """An item's keys [D, CHUNK] and values [CHUNK, D] up to position `last`, which stands for all behind it as well.

    Nothing is read where that is -1.
    """
    _, group, chunk = _of_item(item, rows, GROUPS)
    key, value = _positions(chunk, CHUNK, WARPS)
    key_at, value_at = _places(gl.minimum(key, last), gl.minimum(value, last), group, capacity, WIDTH, WARPS)
    keys = gl.load(keys_ptr + key_at, mask=last >= 0, other=0.0)
    return keys, gl.load(values_ptr + value_at, mask=last >= 0, other=0.0)


@gluon.jit
def fetch_new(
    item, keys, values, keys_ptr, values_ptr, start, last, rows, capacity,
    GROUPS: gl.constexpr, WIDTH: gl.constexpr, CHUNK: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """The same with what this pass has written from `start` on; few threads have any of it."""
    _, group, chunk = _of_item(item, rows, GROUPS)
    key, value = _positions(chunk, CHUNK, WARPS)
    key_at, value_at = _places(key, value, group, capacity, WIDTH, WARPS)
    keys = gl.load(keys_ptr + key_at, mask=(key >= start) & (key <= last) & (key_at >= 0), other=keys)
    # Values behind the last are multiplied with zero, which a NaN would survive.
    values = gl.where(value <= last, values, 0.0)
    there = (value >= start) & (value <= last) & (value_at >= 0)
    return keys, gl.load(values_ptr + value_at, mask=there, other=values)


@gluon.jit
def attend_item(
    item, fetched, q_ptr, keys_ptr, values_ptr, means_ptr, sums_ptr, start, rows, capacity, chunks, scale,
    HEADS: gl.constexpr, GROUPS: gl.constexpr, WIDTH: gl.constexpr, CHUNK: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """One item: the mean of a chunk's values, and the log2 of the sum that it was divided by, for a group's heads."""
    L: gl.constexpr = scores_layout(WARPS)
    PER_GROUP: gl.constexpr = HEADS // GROUPS
    row, group, chunk = _of_item(item, rows, GROUPS)
    here = start + row
    if chunk * CHUNK <= here:
        keys, values = fetched
        if chunk * CHUNK + CHUNK > start:
            last = gl.minimum(here, capacity - 1)
            keys, values = fetch_new(
                item, keys, values, keys_ptr, values_ptr, start, last, rows, capacity, GROUPS, WIDTH, CHUNK, WARPS
            )
        Q: gl.constexpr = gl.DotOperandLayout(0, L, 8)
        head = gl.arange(0, 16, layout=gl.SliceLayout(1, Q))[:, None]
        d = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, Q))[None, :]
        first = row * HEADS + group * PER_GROUP
        q = gl.load(q_ptr + (first + head) * WIDTH + d, mask=head < PER_GROUP, other=0.0)
        scores = mma_v2(q, keys, gl.zeros([16, CHUNK], gl.float32, layout=L))
        s = chunk * CHUNK + gl.arange(0, CHUNK, layout=gl.SliceLayout(0, L))
        scores = gl.where(s[None, :] <= here, scores * scale, float("-inf"))
        top = gl.max(scores, 1)
        weights = gl.exp2(scores - top[:, None])
        total = gl.sum(weights, 1)
        shares = gl.convert_layout(weights.to(gl.bfloat16), gl.DotOperandLayout(0, L, 2))
        mean = mma_v2(shares, values, gl.zeros([16, WIDTH], gl.float32, layout=L)) / total[:, None]
        h = gl.arange(0, 16, layout=gl.SliceLayout(1, L))
        e = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, L))[None, :]
        at = (first + h) * chunks + chunk
        gl.store(means_ptr + at[:, None] * WIDTH + e, mean, mask=h[:, None] < PER_GROUP)
        gl.store(sums_ptr + at, top + gl.log2(total), mask=h < PER_GROUP)


@gluon.jit
def merged(
    means_ptr, sums_ptr, start, rows, chunks,
    HEADS: gl.constexpr, WIDTH: gl.constexpr, CHUNK: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Chunks put together, as fragments of all steps: every program does so for itself."""
    L: gl.constexpr = columns_layout(WARPS)
    K: gl.constexpr = HEADS * WIDTH
    STEPS: gl.constexpr = steps_of(BITS)
    COUNT: gl.constexpr = chunks_of(K, WARPS, BITS) * STEPS
    S: gl.constexpr = gl.SliceLayout(3, L)
    w = gl.arange(0, WARPS, layout=gl.SliceLayout(1, gl.SliceLayout(2, S)))[:, None][:, :, None]
    m = gl.arange(0, 8, layout=gl.SliceLayout(0, gl.SliceLayout(2, S)))[None, :][:, :, None]
    q = gl.arange(0, 4, layout=gl.SliceLayout(0, gl.SliceLayout(1, S)))[None, :][:, None, :]
    j = gl.arange(0, 8, layout=gl.SliceLayout(0, gl.SliceLayout(1, gl.SliceLayout(2, L))))
    j = j[None, :][:, None, :][:, :, None, :]
    seen = gl.minimum((start + m) // CHUNK + 1, chunks)
    most = gl.minimum((start + rows - 1) // CHUNK + 1, chunks)
    tops, totals, means = (), (), ()
    for _ in gl.static_range(COUNT):
        tops += (gl.full([WARPS, 8, 4], float("-inf"), gl.float32, layout=S),)
        totals += (gl.zeros([WARPS, 8, 4], gl.float32, layout=S),)
        means += (gl.zeros([WARPS, 8, 4, 8], gl.float32, layout=L),)
    for first in range(0, most, TURN):
        logs, parts = (), ()
        for i in gl.static_range(COUNT):
            column = (i // STEPS * WARPS + w) * (32 * STEPS) + q * (8 * STEPS) + i % STEPS * 8
            line = (m * HEADS + column // WIDTH) * chunks + first
            for c in gl.static_range(TURN):
                # Behind the last row the first chunk is as good as any: nobody reads what comes of it.
                there = (m < rows) & (column < K) & (first + c < seen)
                logs += (gl.load(sums_ptr + line + c, mask=there, other=float("-inf")),)
                at = ((line + c) * WIDTH + column % WIDTH)[:, :, :, None] + j
                parts += (gl.load(means_ptr + at, mask=there[:, :, :, None] & (j < 8), other=0.0),)
        new_tops, new_totals, new_means = (), (), ()
        for i in gl.static_range(COUNT):
            top = tops[i]
            for c in gl.static_range(TURN):
                top = gl.maximum(top, logs[i * TURN + c])
            lowest = gl.maximum(top, -3e38)  # rows without chunks
            before = gl.exp2(tops[i] - lowest)
            total = totals[i] * before
            mean = means[i] * before[:, :, :, None]
            for c in gl.static_range(TURN):
                weight = gl.exp2(logs[i * TURN + c] - lowest)
                total += weight
                mean += parts[i * TURN + c] * weight[:, :, :, None]
            new_tops += (top,)
            new_totals += (total,)
            new_means += (mean,)
        tops, totals, means = new_tops, new_totals, new_means
    fragments = ()
    for i in gl.static_range(COUNT):
        mean = means[i] / gl.maximum(totals[i], 1e-30)[:, :, :, None]
        flat = mean.to(gl.bfloat16).reshape([WARPS, 8, 32])
        fragments += (widened(gl.convert_layout(flat, loaded_layout(WARPS, 8)), WARPS, 8),)
    return fragments
