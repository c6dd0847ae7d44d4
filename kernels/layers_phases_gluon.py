"""All layers of a decoder in one launch: a program on every multiprocessor, and a barrier across them between phases.

A layer is five phases: queries, keys, values; attention by chunks; chunks put together, output projection; gate, up;
down. What a program multiplies next is copied to shared memory while it computes or waits, so that memory is busy while
the chain of phases is not ("Look Ma, No Bubbles", Hazy Research, 2025, for the idea). Behind each of a layer's barriers
goes a part of it, since many copies at a time keep the warps that issue them. Before a barrier a program says that it
has written; behind it, that all have.

The same phases can be launched one by one: `PHASE` names the one, and there is no barrier.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from kernels import stack as stacks
from kernels.layers_attention_gluon import attend_item, fetch_item, merged
from kernels.layers_products_gluon import (
    TILE,
    bring,
    fetch_heads,
    load_rows,
    norm_scale,
    normed,
    products,
    rooms,
    store_heads,
    store_rows,
    tile_factors,
)
from kernels.matrix_gluon import chunks_of, gains, rows_at, steps_of, tokens, widened

ALL = gl.constexpr(-1)
"""Phases of one launch: all of them, of many layers."""
FIELDS = gl.constexpr(stacks.FIELDS)
MANY = gl.constexpr(1 << 20)
SOONEST = gl.constexpr(stacks.SOON)

# Everything that the threads of this program have written is seen by whoever sees the count; one thread counts.
ARRIVE = gl.constexpr("""{
.reg .pred other;
.reg .b32 thread;
bar.sync 0;
mov.u32 thread, %tid.x;
setp.ne.u32 other, thread, 0;
@!other red.release.gpu.global.add.u32 [$1], 1;
mov.u32 $0, 0;
}""")
# One thread looks at the count until it is reached; then all of them go on.
WAIT = gl.constexpr("""{
.reg .pred other, early;
.reg .b32 thread, count;
mov.u32 thread, %tid.x;
setp.ne.u32 other, thread, 0;
@other bra REACHED;
LOOK:
ld.acquire.gpu.global.u32 count, [$1];
setp.lt.u32 early, count, $2;
@early bra LOOK;
REACHED:
bar.sync 0;
mov.u32 $0, 0;
}""")


@gluon.jit
def _arrive(counter_ptr):
    gl.inline_asm_elementwise(ARRIVE, "=r,l", [counter_ptr], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def _wait(counter_ptr, count):
    gl.inline_asm_elementwise(WAIT, "=r,l,r", [counter_ptr, count], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def _tick(times_ptr, step, moment: gl.constexpr, PROGRAMS: gl.constexpr, TIMED: gl.constexpr):
    """The multiprocessor's clock before it waits (0), when it goes on (1) and when it has written (2)."""
    if TIMED:
        program = gl.program_id(0)
        now = gl.inline_asm_elementwise(
            "mov.u64 $0, %clock64;", "=l,r", [program], dtype=gl.int64, is_pure=False, pack=1
        )
        gl.store(times_ptr + (step * PROGRAMS + program) * 3 + moment, now)


@gluon.jit
def _leave(counter_ptr, PROGRAMS: gl.constexpr):
    """The last program to leave makes the counts ready for the next launch: all others are past every barrier."""
    if gl.atomic_add(counter_ptr + 1, 1) == PROGRAMS - 1:
        gl.store(counter_ptr, 0)
        gl.store(counter_ptr + 1, 0)


@gluon.jit
def _part(base_ptr, table_ptr, layer, field: gl.constexpr):
    """A layer's tensor: places are counted in units of 16 bytes."""
    PER_UNIT: gl.constexpr = 128 // base_ptr.dtype.element_ty.primitive_bitwidth
    return base_ptr + gl.load(table_ptr + layer * FIELDS + field) * PER_UNIT


@gluon.jit
def _bring_tiles(
    found, FIRST: gl.constexpr, FROM: gl.constexpr, TO: gl.constexpr, TILES: gl.constexpr, weight_ptr, N, program,
    PROGRAMS: gl.constexpr, K: gl.constexpr, WIDTH: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    WIDE: gl.constexpr = chunks_of(K, WARPS, BITS)
    for t in gl.static_range(TILES):
        bring(found, FIRST + t * WIDE, FROM, TO, weight_ptr, program + t * PROGRAMS, 0, N, K, WIDTH, WARPS, BITS)


@gluon.jit
def _bring_gates(
    found, FROM: gl.constexpr, TO: gl.constexpr, weight_ptr, N, shift, program,
    PROGRAMS: gl.constexpr, K: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Tiles of gate, each before that of up, which lies `shift` rows further on."""
    WIDE: gl.constexpr = chunks_of(K, WARPS, BITS)
    for t in gl.static_range(FROM, TO):
        tile = program + t * PROGRAMS
        bring(found, 2 * t * WIDE, 0, MANY, weight_ptr, tile, 0, N, K, 0, WARPS, BITS)
        bring(found, (2 * t + 1) * WIDE, 0, MANY, weight_ptr, tile, shift, N, K, 0, WARPS, BITS)


@gluon.jit(do_not_specialize=["start_ptr", "first", "last", "rows"])  # it takes a while to compile
def kernel(
    x_ptr, gain_ptr, weight_ptr, factor_ptr, cache_ptr, table_ptr, rotation_ptr, start_ptr,
    q_ptr, means_ptr, sums_ptr, inner_ptr, counter_ptr, times_ptr,
    first, last, rows, capacity, chunks, eps, scale,
    K: gl.constexpr, F: gl.constexpr, HEADS: gl.constexpr, GROUPS: gl.constexpr, WIDTH: gl.constexpr,
    CHUNK: gl.constexpr, PROGRAMS: gl.constexpr, WARPS: gl.constexpr,
    BITS: gl.constexpr, GROUP: gl.constexpr, BIAS: gl.constexpr, ROOMS: gl.constexpr, PHASE: gl.constexpr,
    TIMED: gl.constexpr,
):  # fmt: skip
    INNER: gl.constexpr = HEADS * WIDTH
    QKV: gl.constexpr = INNER + 2 * GROUPS * WIDTH
    # Tiles of a program: the last of them may be behind the end.
    QKV_TILES: gl.constexpr = (QKV + TILE * PROGRAMS - 1) // (TILE * PROGRAMS)
    OUT_TILES: gl.constexpr = (K + TILE * PROGRAMS - 1) // (TILE * PROGRAMS)
    GATES: gl.constexpr = (F + TILE * PROGRAMS - 1) // (TILE * PROGRAMS)
    SOON: gl.constexpr = min(SOONEST, GATES)
    EARLY: gl.constexpr = min(SOON + 1, GATES)  # tiles that are under way when attention begins
    WIDE: gl.constexpr = chunks_of(K, WARPS, BITS)  # rooms of a tile
    AFTER: gl.constexpr = QKV_TILES * WIDE  # rooms of queries, keys, values, before those of the output projection
    DOWN: gl.constexpr = OUT_TILES * chunks_of(F, WARPS, BITS)
    program = gl.program_id(0)
    start = gl.load(start_ptr)
    # Down and, when it has been read, the next layer's queries, keys, values and output projection take turns.
    gate_rooms = rooms(weight_ptr, 2 * GATES * WIDE, WARPS, BITS)
    turn_rooms = rooms(weight_ptr, ROOMS, WARPS, BITS)
    squared = gl.allocate_shared_memory(gl.float32, [WARPS, 8], gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))
    # What of down does not fit there waits for gate and up to be read, and for their rooms.
    down_rooms = ()
    for i in gl.static_range(DOWN):
        if i < ROOMS:
            down_rooms += (turn_rooms[i],)
        else:
            down_rooms += (gate_rooms[2 * SOON * WIDE + i - ROOMS],)
    if PHASE == ALL:
        w = _part(weight_ptr, table_ptr, first, 4)
        _bring_gates(gate_rooms, 0, SOON, w, F, F, program, PROGRAMS, K, WARPS, BITS)
        async_copy.commit_group()
        w = _part(weight_ptr, table_ptr, first, 2)
        _bring_tiles(turn_rooms, 0, 0, MANY, QKV_TILES, w, QKV, program, PROGRAMS, K, WIDTH, WARPS, BITS)
        async_copy.commit_group()
        w = _part(weight_ptr, table_ptr, first, 3)
        _bring_tiles(turn_rooms, AFTER, 0, MANY, OUT_TILES, w, K, program, PROGRAMS, INNER, 0, WARPS, BITS)
        async_copy.commit_group()
    for layer in range(first, last):
        # Programs that have come to barriers when a layer begins; of the next layer, if there is one, weights go ahead.
        step = (layer - first) * 5
        reached = step * PROGRAMS
        next_layer = gl.minimum(layer + 1, last - 1)
        more = layer + 1 < last
        # All places at once, so that nothing waits for the table later on.
        attention_gain_ptr = _part(gain_ptr, table_ptr, layer, 0)
        feed_forward_gain_ptr = _part(gain_ptr, table_ptr, layer, 1)
        w_gates = _part(weight_ptr, table_ptr, layer, 4)
        w_down = _part(weight_ptr, table_ptr, layer, 5)
        f_qkv = _part(factor_ptr, table_ptr, layer, 6)
        f_out = _part(factor_ptr, table_ptr, layer, 7)
        f_gates = _part(factor_ptr, table_ptr, layer, 8)
        f_down = _part(factor_ptr, table_ptr, layer, 9)
        bias_ptr = _part(gain_ptr, table_ptr, layer, 10)
        keys_ptr = _part(cache_ptr, table_ptr, layer, 11)
        values_ptr = _part(cache_ptr, table_ptr, layer, 12)

        if PHASE == ALL or PHASE == 0:  # queries, keys, values
            if PHASE == 0:
                w = _part(weight_ptr, table_ptr, layer, 2)
                _bring_tiles(turn_rooms, 0, 0, MANY, QKV_TILES, w, QKV, program, PROGRAMS, K, WIDTH, WARPS, BITS)
                async_copy.commit_group()
            gain = gains(attention_gain_ptr, K, WARPS, 8, BITS)
            factors = ()
            fetched = ()
            for t in gl.static_range(QKV_TILES):
                tile = program + t * PROGRAMS
                factors += tile_factors(f_qkv, tile, 0, QKV, K, GROUP, WIDTH, WARPS, BITS)
                fetched += (fetch_heads(bias_ptr, rotation_ptr, tile, start, capacity, QKV, WIDTH, BIAS, WARPS),)
            if PHASE == ALL:
                _tick(times_ptr, step, 0, PROGRAMS, TIMED)
                _wait(counter_ptr, reached)
                _tick(times_ptr, step, 1, PROGRAMS, TIMED)
            fragments = normed(x_ptr, gain, squared, rows, K, WARPS, BITS)
            async_copy.wait_group(1 if PHASE == ALL else 0)
            ys = products(fragments, turn_rooms, 0, factors, QKV_TILES, 1, K, WARPS, BITS)
            scale_of_norm = norm_scale(squared, eps, K, WARPS)
            for t in gl.static_range(QKV_TILES):
                store_heads(
                    ys[t] * scale_of_norm, fetched[t], q_ptr, keys_ptr, values_ptr, program + t * PROGRAMS,
                    start, capacity, rows, HEADS, GROUPS, WIDTH, WARPS,
                )  # fmt: skip
            if PHASE == ALL:
                _tick(times_ptr, step, 2, PROGRAMS, TIMED)
                _arrive(counter_ptr)
                _bring_gates(gate_rooms, SOON, EARLY, w_gates, F, F, program, PROGRAMS, K, WARPS, BITS)
                async_copy.commit_group()

        if PHASE == ALL or PHASE == 1:  # attention by chunks
            items = gl.minimum((start + rows - 1) // CHUNK + 1, chunks) * rows * GROUPS
            known = gl.minimum(start, capacity) - 1
            # The last programs begin: they have the fewest tiles of the output projection, and it waits for attention.
            turn = PROGRAMS - 1 - program
            for item in range(turn, gl.maximum(items, turn + 1), PROGRAMS):
                old = fetch_item(item, keys_ptr, values_ptr, known, rows, capacity, GROUPS, WIDTH, CHUNK, WARPS)
                if PHASE == ALL:
                    if item == turn:
                        _tick(times_ptr, step + 1, 0, PROGRAMS, TIMED)
                    _wait(counter_ptr, reached + PROGRAMS)  # at once, but for the first
                    if item == turn:
                        _tick(times_ptr, step + 1, 1, PROGRAMS, TIMED)
                if item < items:
                    attend_item(
                        item, old, q_ptr, keys_ptr, values_ptr, means_ptr, sums_ptr, start, rows, capacity, chunks,
                        scale, HEADS, GROUPS, WIDTH, CHUNK, WARPS,
                    )  # fmt: skip
            if PHASE == ALL:
                _tick(times_ptr, step + 1, 2, PROGRAMS, TIMED)
                _arrive(counter_ptr)
                _bring_gates(gate_rooms, EARLY, GATES, w_gates, F, F, program, PROGRAMS, K, WARPS, BITS)
                async_copy.commit_group()

        if PHASE == ALL or PHASE == 2:  # chunks put together, output projection, residual sum
            if PHASE == 2:
                w = _part(weight_ptr, table_ptr, layer, 3)
                _bring_tiles(turn_rooms, AFTER, 0, MANY, OUT_TILES, w, K, program, PROGRAMS, INNER, 0, WARPS, BITS)
                async_copy.commit_group()
            factors = ()
            for t in gl.static_range(OUT_TILES):
                factors += tile_factors(f_out, program + t * PROGRAMS, 0, K, INNER, GROUP, 0, WARPS, BITS)
            if PHASE == ALL:
                _tick(times_ptr, step + 2, 0, PROGRAMS, TIMED)
                _wait(counter_ptr, reached + 2 * PROGRAMS)
                _tick(times_ptr, step + 2, 1, PROGRAMS, TIMED)
            before = ()
            for t in gl.static_range(OUT_TILES):
                before += (load_rows(x_ptr, program + t * PROGRAMS, K, rows, WARPS),)
            fragments = merged(means_ptr, sums_ptr, start, rows, chunks, HEADS, WIDTH, CHUNK, WARPS, BITS)
            async_copy.wait_group(2 if PHASE == ALL else 0)
            ys = products(fragments, turn_rooms, AFTER, factors, OUT_TILES, 1, INNER, WARPS, BITS)
            for t in gl.static_range(OUT_TILES):
                store_rows(x_ptr, before[t] + ys[t], program + t * PROGRAMS, K, rows, WARPS)
            if PHASE == ALL:
                _tick(times_ptr, step + 2, 2, PROGRAMS, TIMED)
                _arrive(counter_ptr)
                _bring_tiles(down_rooms, 0, 0, ROOMS, OUT_TILES, w_down, K, program, PROGRAMS, F, 0, WARPS, BITS)
                async_copy.commit_group()

        if PHASE == ALL or PHASE == 3:  # gate, up
            if PHASE == 3:
                _bring_gates(gate_rooms, 0, GATES, w_gates, F, F, program, PROGRAMS, K, WARPS, BITS)
                async_copy.commit_group()
            gain = gains(feed_forward_gain_ptr, K, WARPS, 8, BITS)
            factors = ()
            for t in gl.static_range(GATES):
                tile = program + t * PROGRAMS
                factors += tile_factors(f_gates, tile, 0, F, K, GROUP, 0, WARPS, BITS)
                factors += tile_factors(f_gates, tile, F, F, K, GROUP, 0, WARPS, BITS)
            w = _part(weight_ptr, table_ptr, next_layer, 4)
            if PHASE == ALL:
                _tick(times_ptr, step + 3, 0, PROGRAMS, TIMED)
                _wait(counter_ptr, reached + 3 * PROGRAMS)
                _tick(times_ptr, step + 3, 1, PROGRAMS, TIMED)
            fragments = normed(x_ptr, gain, squared, rows, K, WARPS, BITS)
            async_copy.wait_group(1 if PHASE == ALL else 0)
            ys = products(fragments, gate_rooms, 0, factors, 2 * GATES, 1, K, WARPS, BITS)
            scale_of_norm = norm_scale(squared, eps, K, WARPS)
            for t in gl.static_range(GATES):
                gate = ys[2 * t] * scale_of_norm
                small = gl.exp(-gl.abs(gate))  # never overflows
                y = gate * gl.where(gate < 0, small, 1.0) / (1 + small) * (ys[2 * t + 1] * scale_of_norm)
                store_rows(inner_ptr, y, program + t * PROGRAMS, F, rows, WARPS)
            if PHASE == ALL:
                _tick(times_ptr, step + 3, 2, PROGRAMS, TIMED)
                _arrive(counter_ptr)
                _bring_tiles(down_rooms, 0, ROOMS, MANY, OUT_TILES, w_down, K, program, PROGRAMS, F, 0, WARPS, BITS)
                async_copy.commit_group()
                _bring_gates(
                    gate_rooms, 0, SOON, w, gl.where(more, F, 0), F, program, PROGRAMS, K, WARPS, BITS
                )  # fmt: skip
                async_copy.commit_group()

        if PHASE == ALL or PHASE == 4:  # down, residual sum
            if PHASE == 4:
                _bring_tiles(down_rooms, 0, 0, MANY, OUT_TILES, w_down, K, program, PROGRAMS, F, 0, WARPS, BITS)
                async_copy.commit_group()
            factors = ()
            before = ()
            for t in gl.static_range(OUT_TILES):
                factors += tile_factors(f_down, program + t * PROGRAMS, 0, K, F, GROUP, 0, WARPS, BITS)
                before += (load_rows(x_ptr, program + t * PROGRAMS, K, rows, WARPS),)  # this program's own
            w = _part(weight_ptr, table_ptr, next_layer, 2)
            w_out = _part(weight_ptr, table_ptr, next_layer, 3)
            if PHASE == ALL:
                _tick(times_ptr, step + 4, 0, PROGRAMS, TIMED)
                _wait(counter_ptr, reached + 4 * PROGRAMS)
                _tick(times_ptr, step + 4, 1, PROGRAMS, TIMED)
            inner = rows_at(inner_ptr, tokens(0, 8, WARPS), rows, F, F, WARPS, 8, BITS)
            fragments = ()
            for i in gl.static_range(chunks_of(F, WARPS, BITS) * steps_of(BITS)):
                fragments += (widened(inner[i], WARPS, 8),)
            async_copy.wait_group(1 if PHASE == ALL else 0)
            ys = products(fragments, down_rooms, 0, factors, OUT_TILES, 2, F, WARPS, BITS)
            for t in gl.static_range(OUT_TILES):
                store_rows(x_ptr, before[t] + ys[t], program + t * PROGRAMS, K, rows, WARPS)
            if PHASE == ALL:
                _tick(times_ptr, step + 4, 2, PROGRAMS, TIMED)
                _arrive(counter_ptr)
                n = gl.where(more, QKV, 0)
                _bring_tiles(turn_rooms, 0, 0, MANY, QKV_TILES, w, n, program, PROGRAMS, K, WIDTH, WARPS, BITS)
                async_copy.commit_group()
                n = gl.where(more, K, 0)
                _bring_tiles(turn_rooms, AFTER, 0, MANY, OUT_TILES, w_out, n, program, PROGRAMS, INNER, 0, WARPS, BITS)
                async_copy.commit_group()
    async_copy.wait_group(0)
    if PHASE == ALL:
        _leave(counter_ptr, PROGRAMS)
