"""Tiles of a weight, of eight or sixteen bits, that come to shared memory in long pieces of its rows.

Memory is asked for pieces, and gives only so many of them at a time: of eight bits in pieces of 32 bytes, as a warp
multiplies them, it gave half of what it gives of sixteen in pieces of 64. Here neighbouring threads copy what lies side
by side of a row, 16 bytes each, and a warp takes what it multiplies from what all have copied.

A chunk is 32 columns for each warp: [BLOCK_N, 32 · WARPS]. Fragments are those of `kernels.matrix_gluon`.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from kernels.matrix_gluon import chunks_of, copied_layout, copy_async
from kernels.weights import PADDED


@gluon.constexpr_function
def _copied_layout(warps, bits):
    """[BLOCK_N, 32 · WARPS] as it is copied: sixteen bytes a thread, a row by neighbouring threads."""
    each = 128 // bits
    across = 32 * warps // each
    return gl.BlockedLayout([1, each], [32 // across, across], [warps, 1], [1, 0])


@gluon.constexpr_function
def _taken_layout(warps):
    """The same as it is multiplied: a warp has 32 columns, a thread eight neighbouring ones."""
    return gl.BlockedLayout([1, 8], [8, 4], [1, warps], [1, 0])


@gluon.constexpr_function
def _room_layout(bits):
    """What warps take of neighbouring rows lies in other banks: a row's parts of 32 columns change places."""
    return gl.SwizzledSharedLayout(32, 1, 32 // bits, [1, 0])


@gluon.jit
def rooms_of_lines(weight_ptr, K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr):
    """Shared memory for a tile: of its own for each chunk, or the compiler puts barriers between parts of one."""
    L: gl.constexpr = _room_layout(BITS)
    found = ()
    for _ in gl.static_range(chunks_of(K, WARPS, BITS)):
        found += (gl.allocate_shared_memory(weight_ptr.dtype.element_ty, [BLOCK_N, 32 * WARPS], L),)
    return found


@gluon.jit
def copy_lines(
    found, weight_ptr, first, N,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """All columns of the rows from `first` on, begun to be copied to `rooms_of_lines`. From row N on there are none."""
    L: gl.constexpr = _copied_layout(WARPS, BITS)
    n = (first + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(1, L)))[:, None]
    k = gl.arange(0, 32 * WARPS, layout=gl.SliceLayout(0, L))[None, :]
    row = weight_ptr + n.to(gl.int64) * K
    for i in gl.static_range(chunks_of(K, WARPS, BITS)):
        here = i * 32 * WARPS + k
        if (i + 1) * 32 * WARPS <= K:
            copy_async(found[i], row + here, mask=(n < N) & (k >= 0))  # always; a mask has the shape of what is copied
        else:
            copy_async(found[i], row + here, mask=(n < N) & (here < K))


@gluon.jit
def chunk_of_lines(found, i: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr):
    """Chunk i, which has arrived, as its warps multiply it: [WARPS, 32, BLOCK_N]."""
    taken = found[i].load(_taken_layout(WARPS)).reshape([BLOCK_N, WARPS, 32]).permute([1, 2, 0])
    return gl.convert_layout(taken, copied_layout(WARPS, 8), assert_trivial=True)


@gluon.constexpr_function
def _factors_layout(warps):
    """[BLOCK_N, groups] as they are copied, four neighbouring ones a thread."""
    return gl.BlockedLayout([1, 4], [4, 8], [warps, 1], [1, 0])


@gluon.constexpr_function
def _groups_of(columns, group):
    """Factors of a row of eight bits whose groups of columns have one: see `kernels.weights.Q8`."""
    return -(-columns // (PADDED * group)) * PADDED


@gluon.constexpr_function
def _room_for(groups):
    """A power of two, which shapes have to be, of whole rows of threads."""
    return max(1 << (groups - 1).bit_length(), 32)


@gluon.jit
def room_of_factors(factor_ptr, K: gl.constexpr, GROUP: gl.constexpr, BLOCK_N: gl.constexpr):
    """Shared memory for a tile's factors, where groups of columns have them; else nothing of meaning."""
    if GROUP:
        L: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
        return gl.allocate_shared_memory(factor_ptr.dtype.element_ty, [BLOCK_N, _room_for(_groups_of(K, GROUP))], L)
    else:
        return K


@gluon.jit
def copy_factors(
    found, factor_ptr, first, N, K: gl.constexpr, GROUP: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr
):
    """The factors of the rows from `first` on, begun to be copied to `room_of_factors`, if there are some."""
    if GROUP:
        L: gl.constexpr = _factors_layout(WARPS)
        GROUPS: gl.constexpr = _groups_of(K, GROUP)
        n = (first + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(1, L)))[:, None]
        g = gl.arange(0, _room_for(GROUPS), layout=gl.SliceLayout(0, L))[None, :]
        copy_async(found, factor_ptr + n.to(gl.int64) * GROUPS + g, mask=(n < N) & (g < GROUPS))


# Four codes of eight bits times their factor, rounded once: code + 128 under the exponent of 2^15 is 32,896 + code, of
# which all steps but the last are exact.
SCALE = gl.constexpr("""{
.reg .b32 codes, part;
.reg .f32 less, one, two;
xor.b32 codes, $2, 0x80808080;
mul.rn.f32 less, $3, 0fC7008000;
prmt.b32 part, codes, 0x47000000, 0x7404;
mov.b32 one, part;
fma.rn.f32 one, one, $3, less;
prmt.b32 part, codes, 0x47000000, 0x7414;
mov.b32 two, part;
fma.rn.f32 two, two, $3, less;
cvt.rn.bf16x2.f32 $0, two, one;
prmt.b32 part, codes, 0x47000000, 0x7424;
mov.b32 one, part;
fma.rn.f32 one, one, $3, less;
prmt.b32 part, codes, 0x47000000, 0x7434;
mov.b32 two, part;
fma.rn.f32 two, two, $3, less;
cvt.rn.bf16x2.f32 $1, two, one;
}""")


@gluon.jit
def scaled(codes, found, i: gl.constexpr, WARPS: gl.constexpr):
    """What chunk i of eight bits stands for, where a warp's columns are a group: bfloat16 [WARPS, 32, BLOCK_N].

    found: `room_of_factors`, which has arrived.
    """
    L: gl.constexpr = gl.SliceLayout(1, copied_layout(WARPS, 8))
    factors = found.slice(i * WARPS, WARPS, 1).permute((1, 0)).load(L)
    spread, _ = gl.broadcast(factors.to(gl.float32)[:, None, :], codes)
    return gl.inline_asm_elementwise(SCALE, "=r,=r,r,f,f,f,f", [codes, spread], dtype=gl.bfloat16, is_pure=True, pack=4)
