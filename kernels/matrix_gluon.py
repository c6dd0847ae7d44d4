"""What the products on matrix units have in common: how weights and activations become fragments.

A warp multiplies 16 tokens × 16 columns with 16 columns × 8 rows of a weight at a time, in bfloat16, adding in fp32.
Which 16 columns those are does not matter as long as activations and weights agree: of each step a thread takes eight
neighbouring ones, so that what it needs is one 16-byte load. The warps of a program share its columns, and their sums
meet at the end. Every row is added up in the same order, whichever rows are computed beside it.

Weights are copied to shared memory before the kernel in front of this one has ended; activations are loaded all at once
when it has.

Tiles: weights [WARPS, 32, BLOCK_N], activations [WARPS, TOKENS, 32], sums [WARPS, TOKENS, BLOCK_N].
Four bits (`kernels.weights.Four`): a thread loads four words, the 32 codes of a group, and takes a word at each step.
"""

from __future__ import annotations

from functools import cache

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.runtime import driver

from kernels.tiles import matrix_tile
from kernels.weights import Stream

# Triton renamed them between 3.6 and 3.9.
copy_async = getattr(async_copy, "async_load", None) or async_copy.async_copy_global_to_shared
_memory = gl.shared_memory_descriptor
seen_as = getattr(_memory, "reinterpret", None) or _memory._reinterpret


@cache
def staged_most() -> int:
    """Bytes of weights that a program may have under way: nine tenths of what shared memory it can get."""
    most = driver.active.utils.get_device_properties(torch.cuda.current_device())["max_shared_mem"]
    return int(most) * 9 // 10


def reads(of: Stream, op: str, parts: int = 1) -> bool:
    """Can `op` read `parts` tiles of a weight here: of 16 bits or less, in whole copies, and not too long?"""
    if of.bits >= 32 or of.shape[1] % 8:
        return False
    return parts * matrix_tile(op, of.bits).rows * of.shape[1] * of.bits // 8 <= staged_most()


# Eight codes of a word, times step, plus offset: a code under the exponent of 128 is 128 + code; minus 136, exactly.
UNPACK = gl.constexpr("""{
.reg .b32 step, offset, part, one, less;
mov.b32 one, 0x3f803f80;
mov.b32 less, 0xc308c308;
prmt.b32 step, $12, 0, 0x1010;
prmt.b32 offset, $12, 0, 0x3232;
lop3.b32 part, $4, 0x000f000f, 0x43004300, 0xea;
fma.rn.bf16x2 part, part, one, less;
fma.rn.bf16x2 $0, part, step, offset;
shr.u32 part, $4, 4;
lop3.b32 part, part, 0x000f000f, 0x43004300, 0xea;
fma.rn.bf16x2 part, part, one, less;
fma.rn.bf16x2 $1, part, step, offset;
shr.u32 part, $4, 8;
lop3.b32 part, part, 0x000f000f, 0x43004300, 0xea;
fma.rn.bf16x2 part, part, one, less;
fma.rn.bf16x2 $2, part, step, offset;
shr.u32 part, $4, 12;
lop3.b32 part, part, 0x000f000f, 0x43004300, 0xea;
fma.rn.bf16x2 part, part, one, less;
fma.rn.bf16x2 $3, part, step, offset;
}""")


@gluon.constexpr_function
def sums_layout(warps):
    return gl.NVMMADistributedLayout([2, 0], [warps, 1, 1], [1, 16, 8])


@gluon.constexpr_function
def weights_layout(warps):
    return gl.DotOperandLayout(1, sums_layout(warps), 8)


@gluon.constexpr_function
def activations_layout(warps):
    return gl.DotOperandLayout(0, sums_layout(warps), 8)


@gluon.constexpr_function
def twice_layout(warps):
    """[WARPS, 2, 8, 32]: eight rows of activations where sixteen are multiplied."""
    return gl.BlockedLayout([1, 2, 1, 8], [1, 1, 8, 4], [warps, 1, 1, 1], [3, 2, 1, 0])


@gluon.constexpr_function
def loaded_layout(warps, tokens):
    """How activations are loaded: [WARPS, TOKENS, 32]."""
    return gl.SliceLayout(1, twice_layout(warps)) if tokens == 8 else activations_layout(warps)


@gluon.constexpr_function
def multiplied(tokens):
    """Rows of the sums."""
    return max(tokens, 16)


@gluon.constexpr_function
def copied_layout(warps, bits):
    """[WARPS, 32 columns or 16 words, BLOCK_N] as it is copied: sixteen bytes a thread, eight for eight bits."""
    return gl.BlockedLayout([1, 4 if bits == 4 else 8, 1], [1, 4, 8], [warps, 1, 1], [1, 2, 0])


@gluon.constexpr_function
def staged_layout():
    return gl.SwizzledSharedLayout(1, 1, 1, [1, 2, 0])


@gluon.constexpr_function
def taken(bits):
    """Columns, or words of eight, that a warp takes of a chunk."""
    return 16 if bits == 4 else 32


@gluon.constexpr_function
def words_layout(warps):
    """[WARPS, 16 words, BLOCK_N], four neighbouring words a thread."""
    return gl.BlockedLayout([1, 4, 1], [1, 4, 8], [warps, 1, 1], [1, 2, 0])


@gluon.constexpr_function
def codes_layout(warps):
    """[WARPS, 4 threads, 8 codes, BLOCK_N]"""
    return gl.BlockedLayout([1, 1, 8, 1], [1, 4, 1, 8], [warps, 1, 1, 1], [2, 1, 3, 0])


@gluon.constexpr_function
def steps_of(bits):
    """Steps of 32 columns a warp that come from one load."""
    return 4 if bits == 4 else 1


@gluon.constexpr_function
def chunks_of(columns, warps, bits):
    return -(-columns // (32 * warps * steps_of(bits)))


@gluon.jit
def stage(
    weight_ptr, first, N,
    K: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """All columns of the rows from `first` on, under way to shared memory: [WARPS, taken, BLOCK_N] each chunk.

    Registers would hold them too, but then no program of the next kernel would fit beside this one.
    """
    L: gl.constexpr = copied_layout(WARPS, BITS)
    TAKEN: gl.constexpr = taken(BITS)
    CHUNKS: gl.constexpr = chunks_of(K, WARPS, BITS)
    ROW: gl.constexpr = K // 8 if BITS == 4 else K
    w = gl.arange(0, WARPS, layout=gl.SliceLayout(1, gl.SliceLayout(2, L)))
    k = gl.arange(0, TAKEN, layout=gl.SliceLayout(0, gl.SliceLayout(2, L)))
    n = gl.minimum(first + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, gl.SliceLayout(1, L))), N - 1)
    column = (w[:, None] * TAKEN)[:, :, None] + k[None, :][:, :, None]
    row = weight_ptr + n[None, :][:, None, :].to(gl.int64) * ROW
    staged = ()
    for i in gl.static_range(CHUNKS):
        # Memory of its own for each chunk: the compiler puts a barrier between accesses to parts of one.
        room = gl.allocate_shared_memory(weight_ptr.dtype.element_ty, [WARPS, TAKEN, BLOCK_N], staged_layout())
        here = column + i * WARPS * TAKEN
        if (i + 1) * WARPS * TAKEN <= ROW:
            copy_async(room, row + here)
        elif ROW % TAKEN == 0:
            # A warp has all of its columns or none: seen so, the compiler does not cut its copies into small ones.
            there = (i * WARPS + w[:, None][:, :, None]) * TAKEN < ROW
            copy_async(room, row + here, mask=there)
        else:
            copy_async(room, row + here, mask=here < ROW)
        staged += (room,)
    async_copy.commit_group()
    return staged


@gluon.jit
def staged_chunk(staged, i: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr):
    """Chunk i, which has arrived."""
    if BITS == 4:
        L: gl.constexpr = words_layout(WARPS)
    elif BITS == 8:
        L: gl.constexpr = copied_layout(WARPS, BITS)
    else:
        L: gl.constexpr = weights_layout(WARPS)
    return staged[i].load(L)


@gluon.jit
def fetch_factors(
    factor_ptr, first, N, i,
    K: gl.constexpr, GROUP: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """The factors of chunk i, for four bits; else nothing of meaning."""
    if BITS == 4:
        L: gl.constexpr = gl.SliceLayout(2, codes_layout(WARPS))
        GROUPS: gl.constexpr = K // GROUP
        w = gl.arange(0, WARPS, layout=gl.SliceLayout(1, gl.SliceLayout(2, L)))
        q = gl.arange(0, 4, layout=gl.SliceLayout(0, gl.SliceLayout(2, L)))
        n = first + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, gl.SliceLayout(1, L)))
        here = (i * WARPS * 4 + (w[:, None] * 4)[:, :, None] + q[None, :][:, :, None]) // (GROUP // 32)
        row = n[None, :][:, None, :]
        return gl.load(factor_ptr + row * GROUPS + here, mask=(row < N) & (here < GROUPS), other=0)
    else:
        return i


@gluon.jit
def step_of_words(words, s: gl.constexpr, BLOCK_N: gl.constexpr, WARPS: gl.constexpr):
    """Word s of every thread: [WARPS, 4, BLOCK_N]."""
    apart = words.reshape([WARPS, 4, 2, 2, BLOCK_N]).permute([0, 1, 4, 2, 3])
    even, odd = apart.split()  # by the last bit of s
    if s % 2 == 0:
        low, high = even.split()
    else:
        low, high = odd.split()
    if s // 2 == 0:
        return low
    else:
        return high


@gluon.jit
def weights_at(
    numbers, factors, s: gl.constexpr,
    BLOCK_N: gl.constexpr, WARPS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """Step s of a chunk as fragments: bfloat16 [WARPS, 32, BLOCK_N]."""
    if BITS == 4:
        C: gl.constexpr = codes_layout(WARPS)
        taken = gl.convert_layout(step_of_words(numbers, s, BLOCK_N, WARPS), gl.SliceLayout(2, C), assert_trivial=True)
        words = taken[:, :, None, :] + gl.zeros([WARPS, 4, 8, BLOCK_N], gl.int32, layout=C)
        spread = factors[:, :, None, :] + gl.zeros([WARPS, 4, 8, BLOCK_N], gl.int32, layout=C)
        codes = gl.inline_asm_elementwise(
            UNPACK,
            "=r,=r,=r,=r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r",
            [words, spread],
            dtype=gl.bfloat16,
            is_pure=True,
            pack=8,
        )
        flat = codes.reshape([WARPS, 32, BLOCK_N])
        return gl.convert_layout(flat, weights_layout(WARPS), assert_trivial=True)
    elif BITS == 8:
        return gl.convert_layout(numbers.to(gl.bfloat16), weights_layout(WARPS))
    else:
        return numbers


@gluon.jit
def places(i, s: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr, BITS: gl.constexpr):
    """The columns of step s of chunk i, as activations lie: [WARPS, 1, 32]."""
    A: gl.constexpr = loaded_layout(WARPS, TOKENS)
    w = gl.arange(0, WARPS, layout=gl.SliceLayout(1, gl.SliceLayout(2, A)))[:, None][:, :, None]
    k = gl.arange(0, 32, layout=gl.SliceLayout(0, gl.SliceLayout(1, A)))[None, :][:, None, :]
    STEPS: gl.constexpr = steps_of(BITS)
    if STEPS > 1:
        k = (k // 8) * (8 * STEPS) + s * 8 + k % 8
    return (i * WARPS + w) * (32 * STEPS) + k


@gluon.jit
def tokens(first, TOKENS: gl.constexpr, WARPS: gl.constexpr):
    """The rows of activations that a program has: [1, TOKENS, 1]."""
    A: gl.constexpr = loaded_layout(WARPS, TOKENS)
    return first + gl.arange(0, TOKENS, layout=gl.SliceLayout(0, gl.SliceLayout(2, A)))[None, :][:, :, None]


@gluon.jit
def widened(x, WARPS: gl.constexpr, TOKENS: gl.constexpr):
    """Activations as they are multiplied; eight rows stand there twice."""
    if TOKENS == 8:
        L: gl.constexpr = twice_layout(WARPS)
        x, _ = gl.broadcast(x[:, None, :, :], gl.zeros([WARPS, 2, 8, 32], x.dtype, layout=L))
        x = x.reshape([WARPS, 16, 32])
    return gl.convert_layout(x, activations_layout(WARPS))


@gluon.jit
def gains(gain_ptr, K: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr, BITS: gl.constexpr):
    """The gain of a norm at every step: [WARPS, 1, 32] each."""
    found = ()
    for i in gl.static_range(chunks_of(K, WARPS, BITS)):
        for s in gl.static_range(steps_of(BITS)):
            here = places(i, s, WARPS, TOKENS, BITS)
            found += (gl.load(gain_ptr + here, mask=here < K, other=0.0),)
    return found


@gluon.jit
def rows_at(
    x_ptr, m, rows, x_stride,
    K: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """The activations of every step, all under way at once: [WARPS, TOKENS, 32] each."""
    return rows_of_chunks(x_ptr, m, rows, x_stride, 0, chunks_of(K, WARPS, BITS), K, WARPS, TOKENS, BITS)


@gluon.jit
def rows_of_chunks(
    x_ptr, m, rows, x_stride, FROM: gl.constexpr, TO: gl.constexpr,
    K: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr, BITS: gl.constexpr,
):  # fmt: skip
    """The same of chunks FROM … TO - 1."""
    found = ()
    for i in gl.static_range(FROM, TO):
        for s in gl.static_range(steps_of(BITS)):
            here = places(i, s, WARPS, TOKENS, BITS)
            found += (gl.load(x_ptr + m * x_stride + here, mask=(m < rows) & (here < K), other=0.0),)
    return found


@gluon.jit
def out_places(first_m, first_n, BLOCK_N: gl.constexpr, WARPS: gl.constexpr, TOKENS: gl.constexpr):
    """Rows [multiplied, 1] and features [1, BLOCK_N] of sums over the warps."""
    L: gl.constexpr = gl.SliceLayout(0, sums_layout(WARPS))
    m = first_m + gl.arange(0, multiplied(TOKENS), layout=gl.SliceLayout(1, L))
    n = first_n + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, L))
    return m[:, None], n[None, :]


@gluon.jit
def norm_scale(squares, K: gl.constexpr, eps, WARPS: gl.constexpr, TOKENS: gl.constexpr):
    """1 / root of the mean square of every row: [multiplied, 1], as sums lie."""
    total = gl.sum(gl.sum(squares, 2), 0)
    scale = gl.rsqrt(total / K + eps)
    if TOKENS == 8:
        scale = gl.convert_layout(scale, gl.SliceLayout(0, gl.BlockedLayout([2, 8], [1, 32], [1, WARPS], [1, 0])))
        scale, _ = gl.broadcast(
            scale[None, :], gl.zeros([2, 8], gl.float32, layout=gl.BlockedLayout([2, 8], [1, 32], [1, WARPS], [1, 0]))
        )
        scale = scale.reshape([16])
    return gl.convert_layout(scale, gl.SliceLayout(1, gl.SliceLayout(0, sums_layout(WARPS))))[:, None]
