"""Products of tiles of eight rows of a weight, copied to shared memory ahead of their turn, and what is made of them.

Fragments, layouts and four bits are those of `kernels.matrix_gluon`. TOKENS: rows of activations, eight or sixteen.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from kernels.matrix_gluon import (
    chunks_of,
    codes_layout,
    copied_layout,
    copy_async,
    loaded_layout,
    multiplied,
    rows_at,
    seen_as,
    staged_chunk,
    staged_layout,
    steps_of,
    sums_layout,
    taken,
    tokens,
    weights_at,
    widened,
)

TILE = gl.constexpr(8)
"""Rows of a weight that a program multiplies at a time."""
MANY = gl.constexpr(1 << 20)
"""More rooms than there are."""


@gluon.constexpr_function
def results_layout(warps):
    """[WARPS, TOKENS, TILE]: what is added up over the warps is in one thread."""
    return gl.BlockedLayout([warps, 1, 1], [1, 4, 8], [1, warps, 1], [2, 1, 0])


@gluon.constexpr_function
def sums_room_layout():
    return gl.SwizzledSharedLayout(1, 1, 1, [2, 1, 0])


@gluon.jit
def result_places(tile, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """Rows [TOKENS, 1] and features [1, TILE] of what a tile gives."""
    L: gl.constexpr = gl.SliceLayout(0, results_layout(WARPS))
    m = gl.arange(0, TOKENS, layout=gl.SliceLayout(1, L))
    n = tile * TILE + gl.arange(0, TILE, layout=gl.SliceLayout(0, L))
    return m[:, None], n[None, :]


@gluon.jit
def rooms(weight_ptr, COUNT: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr):
    """Shared memory for `COUNT` chunks of a tile: of its own for each, or the compiler puts barriers between them."""
    found = ()
    for _ in gl.static_range(COUNT):
        found += (gl.allocate_shared_memory(weight_ptr.dtype.element_ty, [WARPS, taken(BITS), TILE], staged_layout()),)
    return found


@gluon.jit
def row_of(tile, i, WIDTH: gl.constexpr):
    """Row i of a tile. Where heads are turned (WIDTH, else 0), four rows and their partners half a head on."""
    if WIDTH == 0:
        return tile * TILE + i
    else:
        PER_HEAD: gl.constexpr = WIDTH // TILE
        return tile // PER_HEAD * WIDTH + tile % PER_HEAD * 4 + i // 4 * (WIDTH // 2) + i % 4


@gluon.jit
def bring(
    found, FIRST: gl.constexpr, FROM: gl.constexpr, TO: gl.constexpr, weight_ptr, tile, shift, N,
    K: gl.constexpr, WIDTH: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """A tile's rows, `shift` further on, under way to the rooms from FIRST on, as far as they are FROM … TO - 1.

    Of rows from N on, nothing is copied.
    """
    L: gl.constexpr = copied_layout(WARPS, BITS)
    TAKEN: gl.constexpr = taken(BITS)
    ROW: gl.constexpr = K // 8 if BITS == 4 else K
    w = gl.arange(0, WARPS, layout=gl.SliceLayout(1, gl.SliceLayout(2, L)))[:, None][:, :, None]
    k = gl.arange(0, TAKEN, layout=gl.SliceLayout(0, gl.SliceLayout(2, L)))[None, :][:, :, None]
    n = row_of(tile, gl.arange(0, TILE, layout=gl.SliceLayout(0, gl.SliceLayout(1, L))), WIDTH)[None, :][:, None, :]
    row = weight_ptr + (n + shift).to(gl.int64) * ROW
    for i in gl.static_range(chunks_of(K, WARPS, BITS)):
        if FIRST + i >= FROM and FIRST + i < TO:
            here = (i * WARPS + w) * TAKEN
            if ROW % TAKEN == 0:
                # A warp has all of its columns or none: seen so, the compiler does not cut its copies into small ones.
                copy_async(found[FIRST + i], row + (here + k), mask=(n < N) & (here < ROW))
            else:
                copy_async(found[FIRST + i], row + (here + k), mask=(n < N) & (here + k < ROW))


@gluon.jit
def tile_factors(
    factor_ptr, tile, shift, N, K: gl.constexpr, GROUP: gl.constexpr, WIDTH: gl.constexpr,
    WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """The factors of a tile's chunks, for four bits; else nothing of meaning."""
    found = ()
    if BITS == 4:
        L: gl.constexpr = gl.SliceLayout(2, codes_layout(WARPS))
        w = gl.arange(0, WARPS, layout=gl.SliceLayout(1, gl.SliceLayout(2, L)))[:, None][:, :, None]
        q = gl.arange(0, 4, layout=gl.SliceLayout(0, gl.SliceLayout(2, L)))[None, :][:, :, None]
        n = row_of(tile, gl.arange(0, TILE, layout=gl.SliceLayout(0, gl.SliceLayout(1, L))), WIDTH)[None, :]
        n = n[:, None, :]
        for i in gl.static_range(chunks_of(K, WARPS, BITS)):
            here = ((i * WARPS + w) * 4 + q) // (GROUP // 32)
            at = factor_ptr + (n + shift) * (K // GROUP) + here
            found += (gl.load(at, mask=(n < N) & (here < K // GROUP), other=0),)
    else:
        for i in gl.static_range(chunks_of(K, WARPS, BITS)):
            found += (i,)
    return found


@gluon.jit
def row_scales(
    factor_ptr, tile, N, WIDTH: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """What sums of a tile's rows are multiplied with: [1, TILE] for eight bits, else 1."""
    if BITS == 8:
        n = row_of(tile, gl.arange(0, TILE, layout=gl.SliceLayout(0, gl.SliceLayout(0, results_layout(WARPS)))), WIDTH)
        return gl.load(factor_ptr + n, mask=n < N, other=0.0)[None, :]
    else:
        return 1.0


@gluon.jit
def normed(
    x_ptr, gain, squared, rows, K: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Rows times gain as fragments of all steps; the squares of the rows come to `squared`, [WARPS, TOKENS]."""
    xs = rows_at(x_ptr, tokens(0, TOKENS, WARPS), rows, K, K, WARPS, TOKENS, BITS)
    squares = gl.zeros([WARPS, TOKENS, 32], gl.float32, layout=loaded_layout(WARPS, TOKENS))
    fragments = ()
    for i in gl.static_range(chunks_of(K, WARPS, BITS) * steps_of(BITS)):
        x = xs[i].to(gl.float32)
        squares = gl.fma(x, x, squares)
        fragments += (widened((x * gain[i].to(gl.float32)).to(gl.bfloat16), WARPS, TOKENS),)
    squared.store(gl.sum(squares, 2))
    return fragments


@gluon.jit
def squares_room(TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """Where the squares of rows meet."""
    return gl.allocate_shared_memory(gl.float32, [WARPS, TOKENS], gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))


@gluon.jit
def norm_scale(squared, eps, K: gl.constexpr, WARPS: gl.constexpr):
    """What the norms of the rows scale products by: [TOKENS, 1]."""
    R: gl.constexpr = results_layout(WARPS)
    total = gl.sum(squared.load(gl.SliceLayout(2, R)), 0)
    return gl.convert_layout(gl.rsqrt(total / K + eps), gl.SliceLayout(1, gl.SliceLayout(0, R)))[:, None]


@gluon.jit
def products(
    fragments, found, factors, meeting, TILES: gl.constexpr, K: gl.constexpr,
    TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Fragments times each tile: [TOKENS, TILE] each. meeting: see `met`."""
    CHUNKS: gl.constexpr = chunks_of(K, WARPS, BITS)
    sums = added(no_sums(TILES, TOKENS, WARPS), fragments, found, factors, 0, CHUNKS, TILES, 1, K, WARPS, BITS)
    return met(sums, found, meeting, TILES, 1, K, TOKENS, WARPS, BITS)


@gluon.jit
def no_sums(COUNT: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """What products are added to: zeros [WARPS, multiplied, TILE] each."""
    sums = ()
    for _ in gl.static_range(COUNT):
        sums += (gl.zeros([WARPS, multiplied(TOKENS), TILE], gl.float32, layout=sums_layout(WARPS)),)
    return sums


@gluon.jit
def added(
    sums, fragments, found, factors, FROM: gl.constexpr, TO: gl.constexpr, TILES: gl.constexpr, CHAINS: gl.constexpr,
    K: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Sums, and the products of fragments with chunks FROM … TO - 1 of each tile; fragments begin with chunk FROM.

    CHAINS: sums of a tile that are added up at the end, so that fewer products wait for one another.
    """
    CHUNKS: gl.constexpr = chunks_of(K, WARPS, BITS)
    STEPS: gl.constexpr = steps_of(BITS)
    for i in gl.static_range(FROM, TO):
        numbers = ()
        for t in gl.static_range(TILES):
            numbers += (staged_chunk(found, t * CHUNKS + i, WARPS, BITS),)
        for s in gl.static_range(STEPS):
            after = ()
            for t in gl.static_range(TILES):
                for c in gl.static_range(CHAINS):
                    if (i * STEPS + s) % CHAINS == c:
                        weight = weights_at(numbers[t], factors[t * CHUNKS + i], s, TILE, WARPS, BITS)
                        after += (mma_v2(fragments[(i - FROM) * STEPS + s], weight, sums[t * CHAINS + c]),)
                    else:
                        after += (sums[t * CHAINS + c],)
            sums = after
    return sums


@gluon.jit
def met(
    sums, found, meeting, TILES: gl.constexpr, CHAINS: gl.constexpr,
    K: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """The sums of all warps: [TOKENS, TILE] of each tile.

    meeting: rooms [WARPS, TOKENS, TILE] where those of a tile meet; none: those that were read.
    """
    CHUNKS: gl.constexpr = chunks_of(K, WARPS, BITS)
    # One barrier for all tiles.
    for t in gl.static_range(TILES):
        total = sums[t * CHAINS]
        for c in gl.static_range(1, CHAINS):
            total += sums[t * CHAINS + c]
        if len(meeting) > 0 and TOKENS == 8:
            low, _ = total.reshape([WARPS, 2, 8, TILE]).permute([0, 2, 3, 1]).split()  # eight rows stand there twice
            meeting[t].store(low)
        elif len(meeting) > 0:
            meeting[t].store(total)
        else:
            seen_as(found[t * CHUNKS], gl.float32, [WARPS, 16, TILE], sums_room_layout()).store(total)
    results = ()
    for t in gl.static_range(TILES):
        if len(meeting) > 0:
            results += (gl.sum(meeting[t].load(results_layout(WARPS)), 0),)
        else:
            room = seen_as(found[t * CHUNKS], gl.float32, [WARPS, 16, TILE], sums_room_layout())
            results += (gl.sum(room.slice(0, TOKENS, 1).load(results_layout(WARPS)), 0),)
    return results


@gluon.jit
def meeting_rooms(COUNT: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """Where warps' sums of so many tiles meet, if weights are to be read again."""
    found = ()
    for _ in gl.static_range(COUNT):
        found += (gl.allocate_shared_memory(gl.float32, [WARPS, TOKENS, TILE], sums_room_layout()),)
    return found


@gluon.jit
def store_rows(out_ptr, y, tile, N, rows, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """[TOKENS, TILE] into rows of N, of which a tile has its own."""
    m, n = result_places(tile, TOKENS, WARPS)
    gl.store(out_ptr + m * N + n, y.to(out_ptr.dtype.element_ty), mask=(m < rows) & (n < N))


@gluon.jit
def load_rows(x_ptr, tile, N, rows, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """[TOKENS, TILE] of rows of N, of which a tile has its own."""
    m, n = result_places(tile, TOKENS, WARPS)
    return gl.load(x_ptr + m * N + n, mask=(m < rows) & (n < N), other=0.0)


@gluon.constexpr_function
def pairs_layout(warps):
    """[TOKENS, 8 features], all features of a row in one thread."""
    return gl.BlockedLayout([1, 8], [8, 4], [1, warps], [1, 0])


@gluon.constexpr_function
def halves_layout(warps):
    """[TOKENS, 4 features]"""
    return gl.BlockedLayout([1, 4], [8, 4], [1, warps], [1, 0])


@gluon.jit
def heads_places(tile, WIDTH: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """Rows [TOKENS, 1] and places within a head [1, 4] of the first half of a tile's features."""
    L: gl.constexpr = halves_layout(WARPS)
    m = gl.arange(0, TOKENS, layout=gl.SliceLayout(1, L))[:, None]
    d = tile % (WIDTH // TILE) * 4 + gl.arange(0, 4, layout=gl.SliceLayout(0, L))[None, :]
    return m, d


@gluon.jit
def fetch_heads(
    bias_ptr, rotation_ptr, tile, start, capacity, N,
    WIDTH: gl.constexpr, BIAS: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """What does not depend on activations: angles of the rows, and biases of both halves."""
    m, d = heads_places(tile, WIDTH, TOKENS, WARPS)
    # Rows that only fill a recorded width may lie behind the capacity: they are computed, and nobody reads them.
    angle = rotation_ptr + gl.minimum(start + m, capacity - 1) * WIDTH + d
    cos, sin = gl.load(angle), gl.load(angle + WIDTH // 2)
    if BIAS:
        n = tile // (WIDTH // TILE) * WIDTH + d
        low = gl.load(bias_ptr + n, mask=n < N, other=0.0).to(gl.float32)
        high = gl.load(bias_ptr + n + WIDTH // 2, mask=n < N, other=0.0).to(gl.float32)
    else:
        low, high = 0.0, 0.0
    return cos, sin, low, high


@gluon.jit
def store_heads(
    y, fetched, q_ptr, keys_ptr, values_ptr, tile, start, capacity, rows,
    HEADS: gl.constexpr, GROUPS: gl.constexpr, WIDTH: gl.constexpr, TOKENS: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """[TOKENS, TILE] of queries, keys or values: turned, and written where attention reads them."""
    L: gl.constexpr = halves_layout(WARPS)
    cos, sin, bias_low, bias_high = fetched
    apart = gl.convert_layout(y, pairs_layout(WARPS)).reshape([TOKENS, 2, 4]).permute([0, 2, 1])
    low, high = apart.split()
    low = gl.convert_layout(low, L) + bias_low
    high = gl.convert_layout(high, L) + bias_high
    m, d = heads_places(tile, WIDTH, TOKENS, WARPS)
    head = tile // (WIDTH // TILE)
    kept = (m < rows) & (start + m < capacity)
    row = (start + m).to(gl.int64) * WIDTH + d
    if head < HEADS:
        at = q_ptr + (m * HEADS + head) * WIDTH + d
        gl.store(at, (low * cos - high * sin).to(gl.bfloat16), mask=m < rows)
        gl.store(at + WIDTH // 2, (high * cos + low * sin).to(gl.bfloat16), mask=m < rows)
    elif head < HEADS + GROUPS:
        at = keys_ptr + (head - HEADS).to(gl.int64) * capacity * WIDTH + row
        gl.store(at, (low * cos - high * sin).to(gl.bfloat16), mask=kept)
        gl.store(at + WIDTH // 2, (high * cos + low * sin).to(gl.bfloat16), mask=kept)
    elif head < HEADS + 2 * GROUPS:
        at = values_ptr + (head - HEADS - GROUPS).to(gl.int64) * capacity * WIDTH + row
        gl.store(at, low.to(gl.bfloat16), mask=kept)
        gl.store(at + WIDTH // 2, high.to(gl.bfloat16), mask=kept)
