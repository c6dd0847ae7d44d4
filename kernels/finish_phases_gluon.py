"""The rest of a layer behind its attention in one launch: output projection, feed-forward, and both residual sums.

A program on every multiprocessor, and a barrier across the grid between three phases:

- chunks of attention put together by every program for itself, of more than four rows by a kernel before this one;
  output projection, residual sum
- norm, gate, up, SwiGLU
- down, residual sum

The weights of all phases are under way to shared memory before the kernel in front of this one has ended: gate and up,
most of a layer's bytes, while attention waits for its chain. What of down does not fit follows when rooms are free.

*No program waits for one that cannot begin.* A barrier needs all programs to be on the multiprocessors at once. There
is one for each, and what keeps a multiprocessor from taking its one is finite: kernels before this one on its stream
end by themselves (none of them waits for this one, and of an earlier launch of this kind all programs were there before
its successors began), and so do kernels of other streams that have no barriers. Kernels behind this one begin when
*every* program has asked for them (`griddepcontrol.launch_dependents`), which each does at its start, so that they
only take what all of these have left. Two launches of this kind on two streams at once might each hold multiprocessors
that the other needs: a scorer makes its passes on one stream, and two scorers of one process share its stream, unless
the caller chooses otherwise. Where it happens nevertheless, the wait ends in an error of the device (`trap`) after
some seconds, not in silence.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.grid_gluon import arrive, prefetched, tick, wait
from kernels.matrix_gluon import (
    chunks_of,
    gains,
    loaded_layout,
    rows_of_chunks,
    steps_of,
    tokens,
    widened,
)
from kernels.rooms_gluon import (
    MANY,
    TILE,
    added,
    bring,
    load_rows,
    meeting_rooms,
    met,
    no_sums,
    norm_scale,
    normed,
    products,
    rooms,
    squares_room,
    store_rows,
    tile_factors,
)

AT_A_TIME = gl.constexpr(2)
"""Rooms that are copied as one group."""
CHAINS = gl.constexpr(2)
"""Sums of a tile of down: see `kernels.rooms_gluon.added`."""


@gluon.constexpr_function
def parts_layout(warps):
    """[T rows, columns / 4, 4]"""
    return gl.BlockedLayout([1, 1, 4], [1, 32, 1], [1, warps, 1], [2, 1, 0])


@gluon.constexpr_function
def filled(columns, warps, bits):
    """Columns of a row, filled up to a power of two of whole chunks."""
    least = max(columns, 32 * warps * steps_of(bits))
    return 1 << (least - 1).bit_length()


@gluon.constexpr_function
def in_turn(chunks, tokens, bits):
    """Chunks of what gate and up have left that are multiplied at a time: registers hold eight whole rows of it."""
    return chunks if tokens == 8 else 4 // steps_of(bits)


@gluon.constexpr_function
def again_layout(warps, at_once):
    """[WARPS, 8 / rows, rows, 4 threads, 8 columns]: rows again and again, where there are fewer than eight."""
    return gl.BlockedLayout([1, 1, 1, 1, 8], [1, 8 // at_once, at_once, 4, 1], [warps, 1, 1, 1, 1], [4, 3, 2, 1, 0])


@gluon.jit
def _merged(
    means_ptr, sums_ptr, start, rows,
    HEADS: gl.constexpr, WIDTH: gl.constexpr, CHUNK: gl.constexpr, CHUNKS: gl.constexpr, AT_ONCE: gl.constexpr,
    WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Chunks put together, as fragments of all steps: every program does so for itself.

    A row's chunks are added one after the other, whatever the number of rows.
    """
    K: gl.constexpr = HEADS * WIDTH
    STEPS: gl.constexpr = steps_of(BITS)
    FILLED: gl.constexpr = filled(K, WARPS, BITS)
    TURNS: gl.constexpr = FILLED // (32 * WARPS * STEPS)
    TURN: gl.constexpr = min(16 // AT_ONCE, 8)  # chunks that are under way at once, as far as registers go
    L: gl.constexpr = parts_layout(WARPS)
    S: gl.constexpr = gl.SliceLayout(2, L)
    m = gl.arange(0, AT_ONCE, layout=gl.SliceLayout(1, S))[:, None]
    n = 4 * gl.arange(0, FILLED // 4, layout=gl.SliceLayout(0, S))[None, :]
    d = gl.arange(0, 4, layout=gl.SliceLayout(0, gl.SliceLayout(1, L)))[None, :][:, None, :]
    seen = gl.minimum((start + m) // CHUNK + 1, CHUNKS)
    line = (m * HEADS + n // WIDTH) * CHUNKS
    logs = ()
    for c in gl.static_range(CHUNKS):
        logs += (gl.load(sums_ptr + line + c, mask=(m < rows) & (n < K) & (c < seen), other=float("-inf")),)
    mean = gl.zeros([AT_ONCE, FILLED // 4, 4], gl.float32, layout=L)
    total = gl.zeros([AT_ONCE, FILLED // 4], gl.float32, layout=S)
    top = gl.full([AT_ONCE, FILLED // 4], -3e38, gl.float32, layout=S)  # rows without chunks
    for c in gl.static_range(CHUNKS):
        top = gl.maximum(top, logs[c])
    for first in gl.static_range(0, CHUNKS, TURN):
        parts = ()
        for c in gl.static_range(first, min(first + TURN, CHUNKS)):
            there = (m < rows) & (n < K) & (c < seen)
            at = ((line + c) * WIDTH + n % WIDTH)[:, :, None] + d
            parts += (gl.load(means_ptr + at, mask=there[:, :, None] & (d < 4), other=0.0),)
        for c in gl.static_range(first, min(first + TURN, CHUNKS)):
            weight = gl.exp2(logs[c] - top)
            total += weight
            mean += parts[c - first].to(gl.float32) * weight[:, :, None]
    mean = mean / gl.maximum(total, 1e-30)[:, :, None]
    apart = mean.to(gl.bfloat16).reshape([AT_ONCE, TURNS, WARPS, 4, STEPS, 8]).permute([1, 4, 2, 0, 3, 5])
    A: gl.constexpr = again_layout(WARPS, AT_ONCE)
    room = gl.allocate_shared_memory(
        gl.bfloat16, [TURNS * STEPS * WARPS, AT_ONCE, 4, 8], gl.SwizzledSharedLayout(1, 1, 1, [3, 2, 1, 0])
    )
    room.store(apart.reshape([TURNS * STEPS * WARPS, AT_ONCE, 4, 8]))
    fragments = ()
    for i in gl.static_range(chunks_of(K, WARPS, BITS)):
        for s in gl.static_range(STEPS):
            found = room.slice((i * STEPS + s) * WARPS, WARPS, 0).load(gl.SliceLayout(1, A))
            again = gl.zeros([WARPS, 8 // AT_ONCE, AT_ONCE, 4, 8], gl.bfloat16, layout=A)
            found, _ = gl.broadcast(found[:, None, :, :, :], again)
            flat = gl.convert_layout(found.reshape([WARPS, 8, 32]), loaded_layout(WARPS, 8))
            fragments += (widened(flat, WARPS, 8),)
    return fragments


@gluon.jit
def _bring_gates(
    found, weight_ptr, N, program,
    GATES: gl.constexpr, PROGRAMS: gl.constexpr, DEPTH: gl.constexpr,
    K: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Tiles of gate, each before that of up, which lies N rows further on; DEPTH groups of rooms on their way at once.

    With more of them on their way, what the kernels before this one read comes late.
    """
    WIDE: gl.constexpr = chunks_of(K, WARPS, BITS)
    for t in gl.static_range(2 * GATES):
        for first in gl.static_range(t * WIDE, (t + 1) * WIDE, AT_A_TIME):
            async_copy.wait_group(DEPTH - 1)
            bring(
                found, t * WIDE, first, first + AT_A_TIME, weight_ptr, program + t // 2 * PROGRAMS, t % 2 * N, N,
                K, 0, WARPS, BITS,
            )  # fmt: skip
            async_copy.commit_group()


@gluon.jit
def _prefetch(weight_ptr, program, N, PROGRAMS: gl.constexpr, K: gl.constexpr, TILES: gl.constexpr, BITS: gl.constexpr):
    """All rows of a program's tiles."""
    ROW: gl.constexpr = K // 8 if BITS == 4 else K
    for t in gl.static_range(TILES):
        tile = program + t * PROGRAMS
        if (tile + 1) * TILE <= N:
            prefetched(
                weight_ptr + tile * (TILE * ROW), TILE * ROW * weight_ptr.dtype.element_ty.primitive_bitwidth // 8
            )


@gluon.jit
def _bring_tiles(
    found, FROM: gl.constexpr, TO: gl.constexpr, TILES: gl.constexpr, weight_ptr, N, program,
    PROGRAMS: gl.constexpr, K: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Rooms FROM … TO - 1 of those of all tiles."""
    WIDE: gl.constexpr = chunks_of(K, WARPS, BITS)
    for t in gl.static_range(TILES):
        bring(found, t * WIDE, FROM, TO, weight_ptr, program + t * PROGRAMS, 0, N, K, 0, WARPS, BITS)


@gluon.jit
def _out(
    x_ptr, means_ptr, sums_ptr, middle_ptr, start, rows, found, factors, meeting, program,
    TILES: gl.constexpr, PROGRAMS: gl.constexpr, K: gl.constexpr, HEADS: gl.constexpr, WIDTH: gl.constexpr,
    CHUNK: gl.constexpr, CHUNKS: gl.constexpr, AT_ONCE: gl.constexpr,
    TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Chunks put together, output projection, residual sum: what a program has of it, which is also written.

    AT_ONCE: rows that are put together; 0 where they were before.
    """
    before = ()
    for t in gl.static_range(TILES):
        before += (load_rows(x_ptr, program + t * PROGRAMS, K, rows, TOKENS, WARPS),)
    if AT_ONCE == 0:
        fragments = _fragments(
            means_ptr, rows, 0, chunks_of(HEADS * WIDTH, WARPS, BITS), HEADS * WIDTH, TOKENS, WARPS, BITS
        )
    else:
        fragments = _merged(means_ptr, sums_ptr, start, rows, HEADS, WIDTH, CHUNK, CHUNKS, AT_ONCE, WARPS, BITS)
    ys = products(fragments, found, factors, meeting, TILES, HEADS * WIDTH, TOKENS, WARPS, BITS)
    middle = ()
    for t in gl.static_range(TILES):
        middle += (before[t] + ys[t],)
        store_rows(middle_ptr, middle[t], program + t * PROGRAMS, K, rows, TOKENS, WARPS)
    return middle


@gluon.jit
def _fragments(
    x_ptr, rows, FROM: gl.constexpr, TO: gl.constexpr, K: gl.constexpr,
    TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """bfloat16 rows of K, of which chunks FROM … TO - 1, as fragments."""
    found = rows_of_chunks(x_ptr, tokens(0, TOKENS, WARPS), rows, K, FROM, TO, K, WARPS, TOKENS, BITS)
    fragments = ()
    for i in gl.static_range(len(found)):
        fragments += (widened(found[i], WARPS, TOKENS),)
    return fragments


@gluon.jit
def _gate(
    fragments, squared, eps, inner_ptr, rows, found, factors, meeting, program,
    GATES: gl.constexpr, PROGRAMS: gl.constexpr, K: gl.constexpr, F: gl.constexpr,
    TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Gate, up and SwiGLU of rows that were multiplied with the gain."""
    ys = products(fragments, found, factors, meeting, 2 * GATES, K, TOKENS, WARPS, BITS)
    scale = norm_scale(squared, eps, K, WARPS)
    for t in gl.static_range(GATES):
        gate = ys[2 * t] * scale
        small = gl.exp(-gl.abs(gate))  # never overflows
        y = gate * gl.where(gate < 0, small, 1.0) / (1 + small) * (ys[2 * t + 1] * scale)
        store_rows(inner_ptr, y, program + t * PROGRAMS, F, rows, TOKENS, WARPS)


@gluon.jit
def _down(
    inner_ptr, before, y_ptr, rows, found, factors, meeting, program,
    TILES: gl.constexpr, PROGRAMS: gl.constexpr, K: gl.constexpr, F: gl.constexpr,
    TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Down, residual sum. Some chunks of the activations are under way while those before them are multiplied."""
    CHUNKS: gl.constexpr = chunks_of(F, WARPS, BITS)
    TURN: gl.constexpr = in_turn(CHUNKS, TOKENS, BITS)
    coming = _fragments(inner_ptr, rows, 0, min(TURN, CHUNKS), F, TOKENS, WARPS, BITS)
    async_copy.wait_group(0)
    sums = no_sums(TILES * CHAINS, TOKENS, WARPS)
    for first in gl.static_range(0, CHUNKS, TURN):
        fragments = coming
        coming = _fragments(
            inner_ptr, rows, min(first + TURN, CHUNKS), min(first + 2 * TURN, CHUNKS), F, TOKENS, WARPS, BITS
        )
        sums = added(sums, fragments, found, factors, first, min(first + TURN, CHUNKS), TILES, CHAINS, F, WARPS, BITS)
    ys = met(sums, found, meeting, TILES, CHAINS, F, TOKENS, WARPS, BITS)
    for t in gl.static_range(TILES):
        store_rows(y_ptr, before[t] + ys[t], program + t * PROGRAMS, K, rows, TOKENS, WARPS)


@gluon.jit(do_not_specialize=["rows"])
def kernel(
    x_ptr, means_ptr, sums_ptr, start_ptr, gain_ptr, out_ptr, out_factor_ptr, gate_ptr, gate_factor_ptr,
    down_ptr, down_factor_ptr, middle_ptr, inner_ptr, y_ptr, counter_ptr, times_ptr, rows, eps,
    K: gl.constexpr, F: gl.constexpr, HEADS: gl.constexpr, WIDTH: gl.constexpr,
    CHUNK: gl.constexpr, CHUNKS: gl.constexpr, AT_ONCE: gl.constexpr, PROGRAMS: gl.constexpr, WARPS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, EARLY: gl.constexpr, DEPTH: gl.constexpr,
    TOKENS: gl.constexpr, WIDE: gl.constexpr, TIMED: gl.constexpr, OVERLAP: gl.constexpr,
):  # fmt: skip
    if OVERLAP:
        gdc_launch_dependents()
    tick(times_ptr, 0, TIMED)
    INNER: gl.constexpr = HEADS * WIDTH
    # Tiles of a program: the last of them may be behind the end.
    TILES: gl.constexpr = (K + TILE * PROGRAMS - 1) // (TILE * PROGRAMS)
    GATES: gl.constexpr = (F + TILE * PROGRAMS - 1) // (TILE * PROGRAMS)
    OUT: gl.constexpr = TILES * chunks_of(INNER, WARPS, BITS)  # rooms
    DOWN: gl.constexpr = TILES * chunks_of(F, WARPS, BITS)
    program = gl.program_id(0)
    out_rooms = rooms(out_ptr, OUT, WARPS, BITS)
    gate_rooms = rooms(gate_ptr, 2 * GATES * chunks_of(K, WARPS, BITS), WARPS, BITS)
    down_rooms = rooms(down_ptr, EARLY, WARPS, BITS)
    squared = squares_room(TOKENS, WARPS)
    # What of down has no rooms of its own waits for those of the phases before it.
    for i in gl.static_range(EARLY, DOWN):
        if i < EARLY + OUT:
            down_rooms += (out_rooms[i - EARLY],)
        else:
            down_rooms += (gate_rooms[i - EARLY - OUT],)
    # Weights do not depend on the kernel before this one: they are under way before it has ended.
    _bring_tiles(out_rooms, 0, MANY, TILES, out_ptr, K, program, PROGRAMS, INNER, WARPS, BITS)
    async_copy.commit_group()
    _bring_gates(gate_rooms, gate_ptr, F, program, GATES, PROGRAMS, DEPTH, K, WARPS, BITS)
    async_copy.wait_group(DEPTH - 1)
    _bring_tiles(down_rooms, 0, EARLY, TILES, down_ptr, K, program, PROGRAMS, F, WARPS, BITS)
    async_copy.commit_group()
    factors = ()
    for t in gl.static_range(TILES):
        factors += tile_factors(out_factor_ptr, program + t * PROGRAMS, 0, K, INNER, GROUP, 0, WARPS, BITS)
    gate_factors = ()
    for t in gl.static_range(GATES):
        tile = program + t * PROGRAMS
        gate_factors += tile_factors(gate_factor_ptr, tile, 0, F, K, GROUP, 0, WARPS, BITS)
        gate_factors += tile_factors(gate_factor_ptr, tile, F, F, K, GROUP, 0, WARPS, BITS)
    down_factors = ()
    for t in gl.static_range(TILES):
        down_factors += tile_factors(down_factor_ptr, program + t * PROGRAMS, 0, K, F, GROUP, 0, WARPS, BITS)
    start = gl.load(start_ptr)
    if OVERLAP:
        gdc_wait()
    tick(times_ptr, 1, TIMED)

    async_copy.wait_group(min(DEPTH, 2 * GATES * chunks_of(K, WARPS, BITS) // AT_A_TIME + 1))
    if WIDE:
        meeting = meeting_rooms(2 * GATES, TOKENS, WARPS)
        for at in range(0, rows, TOKENS):
            _out(
                x_ptr + at * K, means_ptr + at * INNER, sums_ptr, middle_ptr + at * K, start + at, rows - at,
                out_rooms, factors, meeting, program,
                TILES, PROGRAMS, K, HEADS, WIDTH, CHUNK, CHUNKS, AT_ONCE, TOKENS, WARPS, BITS,
            )  # fmt: skip
    else:
        middle = _out(
            x_ptr, means_ptr, sums_ptr, middle_ptr, start, rows, out_rooms, factors, (), program,
            TILES, PROGRAMS, K, HEADS, WIDTH, CHUNK, CHUNKS, AT_ONCE, TOKENS, WARPS, BITS,
        )  # fmt: skip
    tick(times_ptr, 2, TIMED)
    arrive(counter_ptr, 2 * PROGRAMS - 1)
    _bring_tiles(down_rooms, EARLY, EARLY + OUT, TILES, down_ptr, K, program, PROGRAMS, F, WARPS, BITS)
    async_copy.commit_group()
    gain = gains(gain_ptr, K, WARPS, TOKENS, BITS)
    wait(counter_ptr, PROGRAMS, 2 * PROGRAMS)
    tick(times_ptr, 3, TIMED)
    if WIDE:
        async_copy.wait_group(2)
        _prefetch(down_ptr, program, K, PROGRAMS, F, TILES, BITS)
        for at in range(0, rows, TOKENS):
            fragments = normed(middle_ptr + at * K, gain, squared, rows - at, K, TOKENS, WARPS, BITS)
            _gate(
                fragments, squared, eps, inner_ptr + at * F, rows - at, gate_rooms, gate_factors, meeting, program,
                GATES, PROGRAMS, K, F, TOKENS, WARPS, BITS,
            )  # fmt: skip
    else:
        fragments = normed(middle_ptr, gain, squared, rows, K, TOKENS, WARPS, BITS)
        _prefetch(down_ptr, program, K, PROGRAMS, F, TILES, BITS)
        async_copy.wait_group(2)
        _gate(
            fragments, squared, eps, inner_ptr, rows, gate_rooms, gate_factors, (), program,
            GATES, PROGRAMS, K, F, TOKENS, WARPS, BITS,
        )  # fmt: skip
    tick(times_ptr, 4, TIMED)
    arrive(counter_ptr, 2 * PROGRAMS - 1)
    _bring_tiles(down_rooms, EARLY + OUT, MANY, TILES, down_ptr, K, program, PROGRAMS, F, WARPS, BITS)
    async_copy.commit_group()
    wait(counter_ptr, 0, PROGRAMS)
    tick(times_ptr, 5, TIMED)
    if WIDE:
        for at in range(0, rows, TOKENS):
            own = ()
            for t in gl.static_range(TILES):
                own += (load_rows(middle_ptr + at * K, program + t * PROGRAMS, K, rows - at, TOKENS, WARPS),)
            _down(
                inner_ptr + at * F, own, y_ptr + at * K, rows - at, down_rooms, down_factors, meeting, program,
                TILES, PROGRAMS, K, F, TOKENS, WARPS, BITS,
            )  # fmt: skip
    else:
        _down(
            inner_ptr, middle, y_ptr, rows, down_rooms, down_factors, (), program,
            TILES, PROGRAMS, K, F, TOKENS, WARPS, BITS,
        )  # fmt: skip
    tick(times_ptr, 6, TIMED)
