"""The machine code of `layer_vnni`: the steps of a layer, and the functions that they are made of.

Letters: R rows, K width, F width of the feed-forward, H heads, G groups, D head width, L lanes, S positions seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kernels import vnni
from kernels.native import Code, Parallel, Value, Writer

ROOMS = ("codes", "normed", "qkv", "attended", "inner", "low", "low_codes", "scores")
"""What the steps leave for one another. low: what an adapter's first matrices give. The last two: for each thread."""
_ADDRESSES = ("x", "layer", "cos", "sin", "texts", *ROOMS)
FIELDS = (*_ADDRESSES, "rows", "width", "positions", "low_room", "adapted")
"""Of a task."""
LAYER = ("attention_gain", "feed_forward_gain", "eps", "qkv", "out", "gate_up", "down", "heads", "groups")
"""Of a layer."""
_WEIGHT = ("codes", "firsts", "scales", "base", "features", "columns")
PRODUCT = (*_WEIGHT, *(f"down_{name}" for name in _WEIGHT), *(f"up_{name}" for name in _WEIGHT))
"""Of a product, with its pair's: zeros if it has none."""
TEXT = ("keys", "values", "position", "stride")
"""Of a row: its text's cache, its position, and how far a group's rows are from the next one's."""

AT_ONCE = 4
"""Heads of a group that look at a key together."""
FAR_BELOW = -1e30
"""A score that counts nothing beside any other."""


def layer_code(lanes: int, width: int) -> Parallel:
    """The function `layer`, for heads of width D."""
    code = Code(lanes)
    vnni.add_rounding(code)
    vnni.add_products(code)
    _add_norm(code)
    _add_swiglu(code)
    _add_turn(code, width)
    for heads in range(1, AT_ONCE + 1):
        _add_attend(code, width, heads)
    _add_layer(code, width)
    return code.parallel("layer")


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


def _add_norm(code: Code) -> None:
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


def _add_swiglu(code: Code) -> None:
    """`swiglu(gate, up, from, to)`: silu(gate) · up in gate's place, in some columns of one row."""
    w = code.function("swiglu", vnni.types(code, "ppii"))
    gates, ups, start, stop = w.arguments

    def body(i: Value, _: list[Value]) -> None:
        gate = w.load(gates, i, w.floats)
        below = w.to.fadd(w.each(1.0), exponential(w, w.to.fneg(gate)))
        w.store(w.to.fmul(w.to.fdiv(gate, below), w.load(ups, i, w.floats)), gates, i)

    w.fold(start, stop, code.lanes, [], body)
    w.end()


def _add_turn(code: Code, width: int) -> None:
    """`turn(head, cos, sin)`: the rotary turn of D numbers, in place, pairs D/2 apart; sines come with their signs."""
    w = code.function("turn", vnni.types(code, "ppp"))
    head, cos, sin = w.arguments
    for i in range(0, width // 2, code.lanes):
        places = (i, i + width // 2)
        both = [w.load(head, place, w.floats) for place in places]
        for place, own, other in zip(places, both, reversed(both), strict=True):
            turned = w.to.fmul(own, w.load(cos, place, w.floats))
            w.store(w.math("fma", other, w.load(sin, place, w.floats), turned), head, place)
    w.end()


def _add_attend(code: Code, width: int, heads: int) -> None:
    """`attend_N(queries, keys, values, S, scores, between, y)`: N heads of a group, of one row, over S positions.

    Queries are scaled. `scores` has room for S filled up to whole vectors, `between` numbers for each head. A key is
    read once for all N heads, and then a value.
    """
    lanes, parts = code.lanes, range(0, width, code.lanes)
    each = range(heads)
    w = code.function(f"attend_{heads}", vnni.types(code, "pppipip"))
    query, keys, values, seen, all_scores, between, y = w.arguments
    scores = [w.at(all_scores, w.to.mul(between, w.number(head)), w.f32) for head in each]
    # They do not all fit the registers: what does not is read from where it was.
    queries = [[w.load(query, head * width + part, w.floats) for part in parts] for head in each]

    def products(i: Value) -> list[Value]:
        """Of the key at `i` with each head's query: vectors whose sums are the scores."""
        key = w.at(keys, w.to.mul(i, w.number(width)), w.i16)
        read = [w.widened(key, part) for part in parts]
        found = []
        for own in queries:
            total = w.to.fmul(own[0], read[0])
            for number, other in zip(own[1:], read[1:], strict=True):
                total = w.math("fma", number, other, total)
            found.append(total)
        return found

    def score(i: Value, most: list[Value]) -> list[Value]:
        rows = [products(w.to.add(i, w.number(lane))) for lane in range(lanes)]
        found = [w.totals(row[head] for row in rows) for head in each]
        for head in each:
            w.store(found[head], scores[head], i)
        return [w.math("maximum", before, new) for before, new in zip(most, found, strict=True)]

    whole = w.to.and_(seen, w.number(-lanes))
    most = w.fold(0, whole, lanes, [w.each(FAR_BELOW) for _ in each], score)
    filled = w.to.and_(w.to.add(seen, w.number(lanes - 1)), w.number(-lanes))

    def fill() -> None:
        for place in scores:
            w.store(w.each(FAR_BELOW), place, whole)

    w.when(w.to.icmp_signed("<", whole, filled), fill)

    def last(i: Value, _: list[Value]) -> None:
        for place, vector in zip(scores, products(i), strict=True):
            w.store(w.total(vector), place, i)

    w.fold(whole, seen, 1, [], last)

    def rest(i: Value, most: list[Value]) -> list[Value]:
        return [w.math("maximum", own, w.load(place, i, w.floats)) for own, place in zip(most, scores, strict=True)]

    most = w.fold(whole, filled, lanes, most, rest)
    mosts = [w.spread(w.largest(own)) for own in most]

    def weigh(i: Value, totals: list[Value]) -> list[Value]:
        found = []
        for total, place, own in zip(totals, scores, mosts, strict=True):
            weights = exponential(w, w.to.fsub(w.load(place, i, w.floats), own))
            w.store(weights, place, i)
            found.append(w.to.fadd(total, weights))
        return found

    totals = w.fold(0, filled, lanes, [w.each(0.0) for _ in each], weigh)

    def add(i: Value, sums: list[Value]) -> list[Value]:
        value = w.at(values, w.to.mul(i, w.number(width)), w.i16)
        read = [w.widened(value, part) for part in parts]
        found = []
        for head, place in enumerate(scores):
            weight = w.spread(w.load(place, i, w.f32))
            own = sums[head * len(parts) : (head + 1) * len(parts)]
            found += [w.math("fma", weight, number, total) for number, total in zip(read, own, strict=True)]
        return found

    sums = w.fold(0, seen, 1, [w.each(0.0) for _ in each for _ in parts], add)
    for head, total in enumerate(totals):
        share = w.spread(w.to.fdiv(w.real(1.0), w.total(total)))
        for number, part in enumerate(parts):
            w.store(w.to.fmul(sums[head * len(parts) + number], share), y, head * width + part)
    w.end()


class _Steps:
    """What the steps of a layer have in common: the task's fields, and whose turn it is."""

    def __init__(self, w: Writer, width: int) -> None:
        self.w = w
        (task,) = w.arguments
        self.task = {name: w.field(task, FIELDS, name, None if name in _ADDRESSES else w.i64) for name in FIELDS}
        self.layer = {
            name: w.field(self.task["layer"], LAYER, name, w.i64 if name in ("heads", "groups") else None)
            for name in LAYER
        }
        self.width = width
        self.threads = vnni.threads(w)
        self.rows = self.task["rows"]
        heads, groups = self.layer["heads"], self.layer["groups"]
        self.all_heads = w.to.add(heads, w.to.add(groups, groups))

    def row(self, name: str, row: Value, stride: Value) -> Value:
        """Row `row` of a field, fp32."""
        return self.w.at(self.task[name], self.w.to.mul(row, stride), self.w.f32)

    def turns(self, count: Value, body: Callable[[Value], None]) -> None:
        """Every thread its share of 0 … count - 1, and then they meet."""
        who, threads = self.threads
        self.w.fold(who, count, threads, [], lambda i, _: body(i))
        vnni.meet(self.w)

    def rounded(self, columns: Value, begin: Callable[[Value], Value]) -> vnni.Rounded:
        """All rows in bytes; `begin` says where the numbers of a row are."""
        w = self.w
        codes = self.task["codes"]
        steps = w.at(codes, w.to.mul(w.to.shl(self.rows, w.number(1)), columns), w.i8)
        rounded = vnni.Rounded(codes, steps, self.rows, columns)
        vnni.round_rows(w, rounded, begin, self.threads)
        vnni.meet(w)
        return rounded

    def normed(self, gain: str) -> vnni.Rounded:
        """The residual stream's norm, in bytes."""
        w, width = self.w, self.task["width"]

        def begin(row: Value) -> Value:
            to = self.row("normed", row, width)
            w.call("norm", self.row("x", row, width), self.layer[gain], self.layer["eps"], width, to)
            return to

        return self.rounded(width, begin)

    def multiply(
        self,
        rounded: vnni.Rounded,
        name: str,
        y: Value,
        after: Callable[[Value, Value], None] = lambda first, last: None,
    ) -> None:
        """y [R, N]; where the product has no base it is added to y. `after` is told which pairs are this thread's."""
        w, record = self.w, self.layer[name]
        weight = self._weight(record, "")
        adds = w.to.icmp_unsigned("==", w.to.ptrtoint(weight.base, w.i64), w.number(0))
        base = w.to.select(adds, y, weight.base)
        stride = w.to.select(adds, weight.features, w.number(0))
        pairs = self._pairs(weight)
        features = w.field(record, PRODUCT, "down_features", w.i64)
        adapted = w.to.and_(self.task["adapted"], w.to.zext(w.to.icmp_signed(">", features, w.number(0)), w.i64))
        adapts = w.to.icmp_signed("!=", adapted, w.number(0))

        def low() -> None:
            down = self._weight(record, "down_")
            vnni.multiply(w, rounded, down, self.task["low"], self._pairs(down))

        def high() -> None:
            vnni.meet(w)
            down, up = self._weight(record, "down_"), self._weight(record, "up_")
            room = self.task["low_room"]
            codes = w.at(self.task["low_codes"], w.to.mul(self.threads[0], room), w.i8)
            steps = w.at(codes, w.to.mul(w.to.shl(self.rows, w.number(1)), up.columns), w.i8)
            own = vnni.Rounded(codes, steps, self.rows, up.columns)
            vnni.round_rows(w, own, lambda row: self.row("low", row, down.features), (w.number(0), w.number(1)))
            vnni.multiply(w, own, up._replace(base=y, stride=up.features), y, pairs)

        w.when(adapts, low)
        vnni.multiply(w, rounded, weight._replace(base=base, stride=stride), y, pairs)
        w.when(adapts, high)
        after(*pairs)
        vnni.meet(w)

    def _weight(self, record: Value, prefix: str) -> vnni.Weight:
        w = self.w
        codes, firsts, scales, base = (w.field(record, PRODUCT, prefix + name) for name in _WEIGHT[:4])
        features, columns = (w.field(record, PRODUCT, prefix + name, w.i64) for name in _WEIGHT[4:])
        return vnni.Weight(codes, firsts, scales, base, w.number(0), features, columns)

    def _pairs(self, weight: vnni.Weight) -> tuple[Value, Value]:
        w = self.w
        return vnni.share(w, w.to.udiv(weight.features, w.number(2 * w.code.lanes)), self.threads)


def _add_layer(code: Code, width: int) -> None:
    """`layer(task)`"""
    w = code.function("layer", vnni.types(code, "p"))
    s = _Steps(w, width)
    task, heads, groups = s.task, s.layer["heads"], s.layer["groups"]
    head_width = w.number(width)
    queries = w.to.mul(s.all_heads, head_width)
    attended = w.to.mul(heads, head_width)

    s.multiply(s.normed("attention_gain"), "qkv", task["qkv"])
    s.turns(w.to.mul(s.rows, s.all_heads), lambda unit: _placed(s, unit, queries))

    together = w.number(AT_ONCE)
    own = w.to.udiv(heads, groups)  # of a group
    turns = w.to.udiv(w.to.add(own, w.number(AT_ONCE - 1)), together)

    def attend(unit: Value) -> None:
        rest, turn = w.to.udiv(unit, turns), w.to.mul(w.to.urem(unit, turns), together)
        row, group = w.to.udiv(rest, groups), w.to.urem(rest, groups)
        head = w.to.mul(w.to.add(w.to.mul(group, own), turn), head_width)
        text = w.at(task["texts"], w.to.mul(row, w.number(len(TEXT))), w.i64)
        offset = w.to.mul(group, w.field(text, TEXT, "stride", w.i64))
        keys, values = (w.at(w.field(text, TEXT, name), offset, w.i16) for name in ("keys", "values"))
        seen = w.to.add(w.field(text, TEXT, "position", w.i64), w.number(1))
        between = task["positions"]
        scores = w.at(task["scores"], w.to.mul(w.to.mul(s.threads[0], together), between), w.f32)
        query, to = w.at(s.row("qkv", row, queries), head, w.f32), w.at(s.row("attended", row, attended), head, w.f32)
        left = w.to.sub(own, turn)
        count = w.to.select(w.to.icmp_signed("<", left, together), left, together)
        asked = (query, keys, values, seen, scores, between, to)
        w.choose(count, range(1, AT_ONCE + 1), lambda heads: w.call(f"attend_{heads}", *asked))

    s.turns(w.to.mul(w.to.mul(s.rows, groups), turns), attend)
    s.multiply(s.rounded(attended, lambda row: s.row("attended", row, attended)), "out", task["x"])

    both = w.field(s.layer["gate_up"], PRODUCT, "features", w.i64)
    inner = w.to.lshr(both, w.number(1))

    def swiglu(first: Value, last: Value) -> None:
        lanes = w.number(code.lanes)

        def body(row: Value, _: list[Value]) -> None:
            gates = s.row("inner", row, both)
            w.call("swiglu", gates, w.at(gates, inner, w.f32), w.to.mul(first, lanes), w.to.mul(last, lanes))

        w.fold(0, s.rows, 1, [], body)

    s.multiply(s.normed("feed_forward_gain"), "gate_up", task["inner"], swiglu)
    s.multiply(s.rounded(inner, lambda row: s.row("inner", row, both)), "down", task["x"])
    w.end()


def _placed(s: _Steps, unit: Value, queries: Value) -> None:
    """One head of one row: a query is turned and scaled where it is, a key or a value goes into the cache."""
    w, width = s.w, s.width
    row, head = w.to.udiv(unit, s.all_heads), w.to.urem(unit, s.all_heads)
    heads, groups = s.layer["heads"], s.layer["groups"]
    numbers = w.at(s.row("qkv", row, queries), w.to.mul(head, w.number(width)), w.f32)
    turns = w.to.icmp_signed("<", head, w.to.add(heads, groups))
    rotation = [s.row(name, row, w.number(width)) for name in ("cos", "sin")]
    w.when(turns, lambda: w.call("turn", numbers, *rotation))

    def scale() -> None:
        for part in range(0, width, w.code.lanes):
            w.store(w.to.fmul(w.load(numbers, part, w.floats), w.each(width**-0.5)), numbers, part)

    def keep() -> None:
        text = w.at(s.task["texts"], w.to.mul(row, w.number(len(TEXT))), w.i64)
        past = w.to.sub(head, heads)
        group = w.to.urem(past, groups)
        keys, values = (w.field(text, TEXT, name) for name in ("keys", "values"))
        cache = w.to.select(turns, keys, values)
        offset = w.to.add(
            w.to.mul(group, w.field(text, TEXT, "stride", w.i64)),
            w.to.mul(w.field(text, TEXT, "position", w.i64), w.number(width)),
        )
        place = w.at(cache, offset, w.i16)
        for part in range(0, width, w.code.lanes):
            w.store(w.narrowed(w.load(numbers, part, w.floats)), place, part)

    is_query = w.to.icmp_signed("<", head, heads)
    w.when(is_query, scale)
    w.when(w.to.not_(is_query), keep)
