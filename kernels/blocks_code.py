"""What a checkpoint's blocks hold, as floats: ggml's formats and plain floating point, written for `kernels.native`.

Each is a rule from the bytes of a block to vectors of L floats, in their order; every operation is one that the
decoders of `model.loaders.ggml` do, so that the bits are theirs. Source: ggml-common.h and ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kernels.native import Value, Writer

Numbers = Iterator[Value]


class Format(NamedTuple):
    """How a row is kept: blocks of `size` bytes that hold `values` numbers."""

    values: int
    size: int
    numbers: Callable[[Writer, Value], Numbers]
    """The block at an address -> vectors of L floats."""


def _half(w: Writer, block: Value, byte: int) -> Value:
    """The fp16 number at an even byte."""
    return w.to.fpext(w.to.bitcast(w.load(block, byte // 2, w.i16), w.half), w.f32)


def _byte(w: Writer, block: Value, byte: int) -> Value:
    return w.to.zext(w.load(block, byte, w.i8), w.i32)


def _bytes(w: Writer, block: Value, byte: int, count: int) -> Iterator[Value]:
    """L bytes at a time, as numbers of 32 bits."""
    for i in range(0, count, w.code.lanes):
        yield w.to.zext(w.load(block, byte + i, w.bytes), w.ints)


def _nibble(w: Writer, bytes_: Value, high: int) -> Value:
    return w.to.lshr(bytes_, w.each(4)) if high else w.to.and_(bytes_, w.each(15))


def _times(w: Writer, step: Value, codes: Value) -> Value:
    return w.to.fmul(step, w.to.sitofp(codes, w.floats))


def _q8_0(w: Writer, block: Value) -> Numbers:
    step = w.spread(_half(w, block, 0))
    for i in range(0, 32, w.code.lanes):
        yield _times(w, step, w.to.sext(w.load(block, 2 + i, w.bytes), w.ints))


def _q4_0(w: Writer, block: Value) -> Numbers:
    step = w.spread(_half(w, block, 0))
    for high in (0, 1):
        for some in _bytes(w, block, 2, 16):
            yield _times(w, step, w.to.sub(_nibble(w, some, high), w.each(8)))


def _q5_0(w: Writer, block: Value) -> Numbers:
    step = w.spread(_half(w, block, 0))
    fifths = [w.to.zext(w.load(block, place, w.i16), w.i32) for place in (1, 2)]
    for high in (0, 1):
        bits = w.spread(fifths[high])
        for i, some in enumerate(_bytes(w, block, 6, 16)):
            shifts = w.ladder(i * w.code.lanes)
            fifth = w.to.shl(w.to.and_(w.to.lshr(bits, shifts), w.each(1)), w.each(4))
            yield _times(w, step, w.to.sub(w.to.or_(_nibble(w, some, high), fifth), w.each(16)))


def _factors(w: Writer, block: Value) -> Iterator[tuple[Value, Value]]:
    """Step and offset of each of eight groups: d · scale and dmin · minimum, where those two have six bits."""
    packed = [_byte(w, block, 4 + i) for i in range(12)]
    steps, offsets = _half(w, block, 0), _half(w, block, 2)
    four, six, low, all_ = (w.small(value) for value in (4, 6, 15, 63))
    for group in range(8):
        if group < 4:
            scale, minimum = (w.to.and_(packed[group + i], all_) for i in (0, 4))
        else:
            both = packed[4 + group]
            tops = [w.to.shl(w.to.lshr(packed[group - 4 + i], six), four) for i in (0, 4)]
            scale = w.to.or_(w.to.and_(both, low), tops[0])
            minimum = w.to.or_(w.to.lshr(both, four), tops[1])
        pair = ((steps, scale), (offsets, minimum))
        step, offset = (w.spread(w.to.fmul(most, w.to.sitofp(part, w.f32))) for most, part in pair)
        yield step, offset


def _q4_k(w: Writer, block: Value) -> Numbers:
    for group, (step, offset) in enumerate(_factors(w, block)):
        for some in _bytes(w, block, 16 + 32 * (group // 2), 32):
            yield w.to.fsub(_times(w, step, _nibble(w, some, group % 2)), offset)


def _q5_k(w: Writer, block: Value) -> Numbers:
    for group, (step, offset) in enumerate(_factors(w, block)):
        fifths = _bytes(w, block, 16, 32)
        for some, bits in zip(_bytes(w, block, 48 + 32 * (group // 2), 32), fifths, strict=True):
            fifth = w.to.shl(w.to.and_(w.to.lshr(bits, w.each(group)), w.each(1)), w.each(4))
            yield w.to.fsub(_times(w, step, w.to.or_(_nibble(w, some, group % 2), fifth)), offset)


def _q6_k(w: Writer, block: Value) -> Numbers:
    most = _half(w, block, 208)
    for place in range(0, 256, 32):
        half, nibble, part = place // 128, place // 64 % 2, place // 32 % 2
        lows = _bytes(w, block, 64 * half + 32 * part, 32)
        highs = _bytes(w, block, 128 + 32 * half, 32)
        for i, (low, high) in enumerate(zip(lows, highs, strict=True)):
            sixteenth = (place + i * w.code.lanes) // 16
            scale = w.to.sitofp(w.load(block, 192 + sixteenth, w.i8), w.f32)
            top = w.to.shl(w.to.and_(w.to.lshr(high, w.each(4 * nibble + 2 * part)), w.each(3)), w.each(4))
            codes = w.to.sub(w.to.or_(_nibble(w, low, nibble), top), w.each(32))
            yield _times(w, w.spread(w.to.fmul(most, scale)), codes)


def _codes(w: Writer, block: Value) -> Numbers:
    """Two in a byte, the first in its low half."""
    step, half = w.spread(_half(w, block, 0)), w.code.lanes // 2
    for i in range(0, 16, half):
        some = w.to.zext(w.load(block, 2 + i, w.vector(w.i8, half)), w.vector(w.i32, half))
        lows = w.to.and_(some, w.constant(w.vector(w.i32, half), [15] * half))
        highs = w.to.lshr(some, w.constant(w.vector(w.i32, half), [4] * half))
        in_turn = w.picked(lows, highs, [lane // 2 + half * (lane % 2) for lane in range(w.code.lanes)])
        yield _times(w, step, w.to.sub(in_turn, w.each(8)))


def _f32(w: Writer, block: Value) -> Numbers:
    for i in range(0, 16, w.code.lanes):
        yield w.load(block, i, w.floats)


def _f16(w: Writer, block: Value) -> Numbers:
    for i in range(0, 16, w.code.lanes):
        yield w.to.fpext(w.to.bitcast(w.load(block, i, w.halves), w.vector(w.half, w.code.lanes)), w.floats)


def _bf16(w: Writer, block: Value) -> Numbers:
    for i in range(0, 16, w.code.lanes):
        yield w.widened(block, i)


FORMATS = {
    "F32": Format(16, 64, _f32),
    "F16": Format(16, 32, _f16),
    "BF16": Format(16, 32, _bf16),
    "Q4_0": Format(32, 18, _q4_0),
    "Q5_0": Format(32, 22, _q5_0),
    "Q8_0": Format(32, 34, _q8_0),
    "Q4_K": Format(256, 144, _q4_k),
    "Q5_K": Format(256, 176, _q5_k),
    "Q6_K": Format(256, 210, _q6_k),
    "codes of four bits": Format(32, 18, _codes),
}
"""By the names that `model.loaders.ggml` has for them."""
