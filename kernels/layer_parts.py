"""The functions that layers in machine code are made of: norm, SwiGLU, rotary turn, attention of one row.

Letters: K width, L lanes, S positions seen, N heads that look at a key together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from kernels import vnni
from kernels.native import Code, Value, Writer

FAR_BELOW = -1e30
"""A score that counts nothing beside any other."""
SUMS = {16: 20, 8: 10}
"""By L, vectors of sums that stay in registers while values are added up."""


def exponential(w: Writer, x: Value) -> Value:
    """e to the power of each lane, to the last bit or two; 0 and infinity are never reached.

    Source: Moshier, "Cephes Mathematical Library", expf: 2ⁿ · polynomial of what is left.
    """
    x = w.math("minimum", w.math("maximum", x, w.each(-87.0)), w.each(88.0))
    n = w.math("roundeven", w.to.fmul(x, w.each(math.log2(math.e))))
    left = w.math("fma", n, w.each(2.12194440e-4), w.math("fma", n, w.each(-0.693359375), x))
    terms = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    found = w.each(terms[0])
    for term in terms[1:]:
        found = w.math("fma", found, left, w.each(term))
    found = w.to.fadd(w.math("fma", w.to.fmul(left, left), found, left), w.each(1.0))
    power = w.to.shl(w.rounded(n), w.each(23))
    return w.to.bitcast(w.to.add(w.to.bitcast(found, w.ints), power), w.floats)


def add_norm(code: Code) -> None:
    """`norm(x, gain, eps, K, y)`: x / sqrt(mean(x²) + eps) · gain, of one row."""
    w = code.function("norm", vnni.types(code, "pppip"))
    x, gain, eps, columns, y = w.arguments

    def squares(i: Value, total: list[Value]) -> list[Value]:
        numbers = w.load(x, i, w.floats)
        return [w.math("fma", numbers, numbers, total[0])]

    (total,) = w.fold(0, columns, code.lanes, [w.each(0.0)], squares)
    mean = w.to.fdiv(w.total(total), w.to.sitofp(columns, w.f32))
    root = w.math("sqrt", w.to.fadd(mean, w.load(eps, 0, w.f32)))
    factor = w.spread(w.to.fdiv(w.real(1.0), root))

    def scaled(i: Value, _: list[Value]) -> None:
        numbers = w.to.fmul(w.load(x, i, w.floats), factor)
        w.store(w.to.fmul(numbers, w.load(gain, i, w.floats)), y, i)

    w.fold(0, columns, code.lanes, [], scaled)
    w.end()


def add_swiglu(code: Code) -> None:
    """`swiglu(gate, up, from, to)`: silu(gate) · up in gate's place, in some columns of one row."""
    w = code.function("swiglu", vnni.types(code, "ppii"))
    gates, ups, start, stop = w.arguments

    def body(i: Value, _: list[Value]) -> None:
        gate = w.load(gates, i, w.floats)
        below = w.to.fadd(w.each(1.0), exponential(w, w.to.fneg(gate)))
        w.store(w.to.fmul(w.to.fdiv(gate, below), w.load(ups, i, w.floats)), gates, i)

    w.fold(start, stop, code.lanes, [], body)
    w.end()


def add_turn(code: Code, width: int) -> None:
    """`turn(x, cos, sin, y)`: the rotary turn of `width` numbers, pairs half of it apart; sines have their signs."""
    w = code.function("turn", vnni.types(code, "pppp"))
    x, cos, sin, y = w.arguments
    for i in range(0, width // 2, code.lanes):
        places = (i, i + width // 2)
        both = [w.load(x, place, w.floats) for place in places]
        for place, own, other in zip(places, both, reversed(both), strict=True):
            turned = w.to.fmul(own, w.load(cos, place, w.floats))
            w.store(w.math("fma", other, w.load(sin, place, w.floats), turned), y, place)
    w.end()


class Seen(NamedTuple):
    """How what attention looks at lies: numbers of a key and of a value, and from one position to the next."""

    key: int
    value: int
    apart: int


def add_attend(code: Code, seen: Seen, heads: int) -> None:
    """`attend_N(near, far, keys, far_keys, values, first, S, scores, between, y)`: N heads of a row, over S positions.

    Queries are scaled. Positions before `first` are scored by far queries with far keys, those behind by near ones, and
    one softmax goes over all. `scores` has room for S + L, `between` numbers for each head. A key is read once for all
    N heads, and then a value.
    """
    _add_score(code, seen, heads)
    lanes, each = code.lanes, range(heads)
    w = code.function(f"attend_{heads}", vnni.types(code, "pppppiipip"))
    near, far, keys, far_keys, values, first, count, all_scores, between, y = w.arguments
    scores = [w.at(all_scores, w.to.mul(between, w.number(head)), w.f32) for head in each]
    for place in scores:
        w.store(w.each(FAR_BELOW), place, count)
    w.call(f"score_{heads}", far, far_keys, w.number(0), first, all_scores, between)
    w.call(f"score_{heads}", near, keys, first, count, all_scores, between)
    filled = w.to.and_(w.to.add(count, w.number(lanes - 1)), w.number(-lanes))

    def larger(i: Value, most: list[Value]) -> list[Value]:
        return [w.math("maximum", own, w.load(place, i, w.floats)) for own, place in zip(most, scores, strict=True)]

    mosts = [w.spread(w.largest(own)) for own in w.fold(0, filled, lanes, [w.each(FAR_BELOW) for _ in each], larger)]

    def weigh(i: Value, totals: list[Value]) -> list[Value]:
        found = []
        for total, place, own in zip(totals, scores, mosts, strict=True):
            weights = exponential(w, w.to.fsub(w.load(place, i, w.floats), own))
            w.store(weights, place, i)
            found.append(w.to.fadd(total, weights))
        return found

    totals = w.fold(0, filled, lanes, [w.each(0.0) for _ in each], weigh)
    shares = [w.spread(w.to.fdiv(w.real(1.0), w.total(total))) for total in totals]
    parts, some = range(0, seen.value, lanes), SUMS[lanes] // heads
    for begin in range(0, len(parts), some):
        _write_values(w, seen, scores, (values, count), parts[begin : begin + some], shares, y)
    w.end()


def _write_values(
    w: Writer,
    seen: Seen,
    scores: Sequence[Value],
    rows: tuple[Value, Value],
    parts: Sequence[int],
    shares: Sequence[Value],
    y: Value,
) -> None:
    """Some parts of the sum of values by their weights, for each head."""
    values, count = rows

    def add(i: Value, sums: list[Value]) -> list[Value]:
        value = w.at(values, w.to.mul(i, w.number(seen.apart)), w.i16)
        read = [w.widened(value, part) for part in parts]
        found = []
        for head, place in enumerate(scores):
            weight = w.spread(w.load(place, i, w.f32))
            own = sums[head * len(parts) : (head + 1) * len(parts)]
            found += [w.math("fma", weight, number, total) for number, total in zip(read, own, strict=True)]
        return found

    sums = iter(w.fold(0, count, 1, [w.each(0.0) for _ in scores for _ in parts], add))
    for head, share in enumerate(shares):
        for part in parts:
            w.store(w.to.fmul(next(sums), share), y, head * seen.value + part)


def _add_score(code: Code, seen: Seen, heads: int) -> None:
    """`score_N(queries, keys, from, to, scores, between)`"""
    lanes, parts, each = code.lanes, range(0, seen.key, code.lanes), range(heads)
    w = code.function(f"score_{heads}", vnni.types(code, "ppiipi"))
    query, keys, first, last, all_scores, between = w.arguments
    scores = [w.at(all_scores, w.to.mul(between, w.number(head)), w.f32) for head in each]
    # They do not all fit the registers: what does not is read from where it was.
    queries = [[w.load(query, head * seen.key + part, w.floats) for part in parts] for head in each]

    def products(i: Value) -> list[Value]:
        """Of the key at `i` with each head's query: vectors whose sums are the scores."""
        key = w.at(keys, w.to.mul(i, w.number(seen.apart)), w.i16)
        read = [w.widened(key, part) for part in parts]
        found = []
        for own in queries:
            total = w.to.fmul(own[0], read[0])
            for number, other in zip(own[1:], read[1:], strict=True):
                total = w.math("fma", number, other, total)
            found.append(total)
        return found

    def some(i: Value, _: list[Value]) -> None:
        rows = [products(w.to.add(i, w.number(lane))) for lane in range(lanes)]
        for head in each:
            w.store(w.totals(row[head] for row in rows), scores[head], i)

    def one(i: Value, _: list[Value]) -> None:
        for place, vector in zip(scores, products(i), strict=True):
            w.store(w.total(vector), place, i)

    whole = w.to.add(first, w.to.and_(w.to.sub(last, first), w.number(-lanes)))
    w.fold(first, whole, lanes, [], some)
    w.fold(whole, last, 1, [], one)
    w.end()


def pieces(total: int, most: int) -> tuple[int, list[int]]:
    """So many heads, a few at a time and as evenly as can be: how many at once, and all sizes that come up."""
    at_once = -(-total // -(-total // most))
    return at_once, sorted({at_once, total % at_once or at_once})


def keep_row(w: Writer, numbers: Value, width: int, place: Value) -> None:
    """Floats into a cache of bfloat16."""
    for part in range(0, width, w.code.lanes):
        w.store(w.narrowed(w.load(numbers, part, w.floats)), place, part)


def copy_row(w: Writer, numbers: Value, width: int, place: Value) -> None:
    for part in range(0, width, w.code.lanes):
        w.store(w.load(numbers, part, w.floats), place, part)
