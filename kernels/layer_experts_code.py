"""A mixture of experts in machine code: who sees a row, and the products with nobody else's matrices.

Shared experts are one more, which every row has in its last slot. A row is multiplied by itself: rows have experts of
their own, and those who share one find its weights where the row before left them, near the processor.
Letters: R rows, K width, E experts, I features inside one, N slots of a row, the shared experts' among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kernels import vnni
from kernels.experts import Routing
from kernels.layer_parts import FAR_BELOW, exponential
from kernels.layer_steps import EXPERT, Steps
from kernels.native import Code, Value, Writer


def routed_room(routing: Routing, lanes: int) -> int:
    """Numbers that choosing takes: scores, scores to choose by, and what groups are worth."""
    return 2 * _filled(routing, lanes) + routing.groups


def _filled(routing: Routing, lanes: int) -> int:
    return -(-routing.experts // lanes) * lanes


def add_experts(code: Code, routing: Routing) -> None:
    """`route(x, K, router, bias, room, ids, gates)`: the experts of one row that is normed, best first, and what they
    count; `model.feed_forward.routing` says how they are chosen."""
    w = code.function("route", vnni.types(code, "pippppp"))
    x, columns, router, bias, scores, ids, gates = w.arguments
    lanes, filled = code.lanes, _filled(routing, code.lanes)
    wanted, worth = w.at(scores, filled, w.f32), w.at(scores, 2 * filled, w.f32)
    for first in range(0, filled, lanes):
        w.store(_logits(w, x, columns, router, range(first, min(first + lanes, routing.experts))), scores, first)
    (_sigmoid if routing.sigmoid else _softmax)(w, scores, filled)
    for part in range(0, filled, lanes):
        w.store(w.to.fadd(w.load(scores, part, w.floats), w.load(bias, part, w.floats)), wanted, part)
    if routing.chosen_groups < routing.groups:
        _leave_groups(w, routing, wanted, worth)

    def take(slot: Value, total: list[Value]) -> list[Value]:
        expert = _take_best(w, wanted, routing.experts)
        score = w.load(scores, expert, w.f32)
        w.store(expert, ids, slot)
        w.store(score, gates, slot)
        return [w.to.fadd(total[0], score)]

    (total,) = w.fold(0, routing.chosen, 1, [w.real(0.0)], take)
    whole = w.to.fadd(total, w.real(1e-20)) if routing.normalised else w.real(1.0)

    def scale(slot: Value, _: list[Value]) -> None:
        share = w.to.fdiv(w.load(gates, slot, w.f32), whole)
        w.store(w.to.fmul(share, w.real(routing.scale)), gates, slot)

    w.fold(0, routing.chosen, 1, [], scale)
    w.end()


def _logits(w: Writer, x: Value, columns: Value, router: Value, experts: range) -> Value:
    """A vector of products with the router's rows; far below in lanes that have none."""
    rows = [w.at(router, w.to.mul(columns, w.number(expert)), w.f32) for expert in experts]

    def add(i: Value, sums: list[Value]) -> list[Value]:
        numbers = w.load(x, i, w.floats)
        return [w.math("fma", numbers, w.load(row, i, w.floats), total) for row, total in zip(rows, sums, strict=True)]

    sums = w.fold(0, columns, w.code.lanes, [w.each(0.0) for _ in rows], add)
    missing = w.code.lanes - len(sums)
    found = w.totals(iter([*sums, *[w.each(0.0)] * missing]))
    return w.picked(found, w.each(FAR_BELOW), [*range(len(sums)), *[w.code.lanes] * missing])


def _sigmoid(w: Writer, scores: Value, filled: int) -> None:
    for part in range(0, filled, w.code.lanes):
        below = w.to.fadd(w.each(1.0), exponential(w, w.to.fneg(w.load(scores, part, w.floats))))
        w.store(w.to.fdiv(w.each(1.0), below), scores, part)


def _softmax(w: Writer, scores: Value, filled: int) -> None:
    parts = range(0, filled, w.code.lanes)
    logits = [w.load(scores, part, w.floats) for part in parts]
    most = logits[0]
    for some in logits[1:]:
        most = w.math("maximum", most, some)
    most = w.spread(w.largest(most))
    powers = [exponential(w, w.to.fsub(some, most)) for some in logits]
    total = powers[0]
    for some in powers[1:]:
        total = w.to.fadd(total, some)
    total = w.spread(w.total(total))
    for part, some in zip(parts, powers, strict=True):
        w.store(w.to.fdiv(some, total), scores, part)


def _leave_groups(w: Writer, routing: Routing, wanted: Value, worth: Value) -> None:
    """What is wanted of the experts outside of the best groups becomes -infinity."""
    each, nothing = routing.experts // routing.groups, w.real(-math.inf)

    def value(group: Value, _: list[Value]) -> None:
        own = w.at(wanted, w.to.mul(group, w.number(each)), w.f32)

        def look(i: Value, best: list[Value]) -> list[Value]:
            score = w.load(own, i, w.f32)
            larger = w.to.fcmp_ordered(">", score, best[0])
            less = w.to.select(larger, best[0], score)
            second = w.to.select(w.to.fcmp_ordered(">", less, best[1]), less, best[1])
            return [w.to.select(larger, score, best[0]), second]

        first, second = w.fold(0, each, 1, [nothing, nothing], look)
        w.store(w.to.fadd(first, second) if routing.best_two else first, worth, group)

    def leave(group: Value, _: list[Value]) -> None:
        left = w.to.fcmp_unordered("!=", w.load(worth, group, w.f32), nothing)
        own = w.at(wanted, w.to.mul(group, w.number(each)), w.f32)
        w.when(left, lambda: w.fold(0, each, 1, [], lambda i, _: w.store(nothing, own, i)))

    def take(_: Value, __: list[Value]) -> None:
        _take_best(w, worth, routing.groups)

    w.fold(0, routing.groups, 1, [], value)
    w.fold(0, routing.chosen_groups, 1, [], take)
    w.fold(0, routing.groups, 1, [], leave)  # worth -infinity: taken


def _take_best(w: Writer, values: Value, count: int) -> Value:
    """The number of the largest, of two equal ones the first; it becomes -infinity."""

    def look(i: Value, best: list[Value]) -> list[Value]:
        value = w.load(values, i, w.f32)
        larger = w.to.fcmp_ordered(">", value, best[0])
        return [w.to.select(larger, value, best[0]), w.to.select(larger, i, best[1])]

    _, found = w.fold(0, count, 1, [w.real(-math.inf), w.number(0)], look)
    w.store(w.real(-math.inf), values, found)
    return found


class _Slots:
    """The slots of all rows, whose numbers count through, and the experts that are in them."""

    def __init__(self, s: Steps, routing: Routing) -> None:
        w = s.w
        self.s, self.experts = s, routing.experts
        shared = w.to.zext(w.to.icmp_signed(">", s.layer["shared"], w.number(0)), w.i64)
        self.of_row = w.to.add(w.number(routing.slots), shared)
        self.all = w.to.mul(s.rows, self.of_row)
        self.all_experts = w.to.add(w.number(routing.experts), shared)
        self.ids = w.at(s.task["ids"], w.to.mul(s.index, self.all), w.i64)
        self.gates = s.task["gates"]
        largest = s.layer["largest"]
        self.inner_room = w.to.shl(largest, w.number(1))
        steps = w.to.mul(self.all, self.inner_room)
        self.inner_steps = w.at(s.task["inner_codes"], steps, w.i8)

    def record(self, expert: Value) -> Value:
        w = self.s.w
        return w.at(self.s.layer["experts"], w.to.mul(expert, w.number(len(EXPERT))), w.i64)

    def inner(self, slot: Value) -> Value:
        """Gate and up of a slot, fp32."""
        return self.s.row("inner", slot, self.inner_room)

    def codes(self, slot: Value) -> tuple[Value, Value]:
        """The bytes of what comes of them, and their step."""
        w = self.s.w
        place = w.at(self.s.task["inner_codes"], w.to.mul(slot, self.inner_room), w.i8)
        return place, w.at(self.inner_steps, slot, w.f32)

    def each_of(self, expert: Value, body: Callable[[Value], None]) -> None:
        """Every slot that an expert is in."""
        w = self.s.w

        def look(slot: Value, _: list[Value]) -> None:
            w.when(w.to.icmp_signed("==", w.load(self.ids, slot, w.i64), expert), lambda: body(slot))

        w.fold(0, self.all, 1, [], look)


def feed_experts(s: Steps, routing: Routing) -> None:
    """The experts' answers, added to the residual stream."""
    w, slots, width = s.w, _Slots(s, routing), s.task["width"]
    lanes = w.number(w.code.lanes)
    step_places = w.at(s.task["codes"], w.to.mul(w.to.shl(s.rows, w.number(1)), width), w.i8)

    def row_codes(row: Value) -> tuple[Value, Value]:
        codes = w.at(s.task["codes"], w.to.mul(row, w.to.shl(width, w.number(1))), w.i8)
        return codes, w.at(step_places, row, w.f32)

    def begin(unit: Value) -> None:
        row, routes = w.to.lshr(unit, w.number(1)), w.to.icmp_signed("!=", w.to.and_(unit, w.number(1)), w.number(0))
        normed = s.row("normed", unit, width)
        s.norm("feed_forward_gain", row, normed)
        first = w.to.mul(row, slots.of_row)
        w.when(routes, lambda: _route(s, routing, slots, normed, first))
        w.when(w.to.not_(routes), lambda: _round(w, normed, width, row_codes(row)))

    s.turns(w.to.shl(s.rows, w.number(1)), begin)

    def gate_up(expert: Value, _: list[Value]) -> None:
        record = slots.record(expert)
        codes, firsts, scales, base = (w.field(record, EXPERT, name) for name in EXPERT[:4])
        inner = w.field(record, EXPERT, "inner", w.i64)

        def pair(p: Value, _: list[Value]) -> None:
            column = w.to.mul(p, lanes)
            weight = w.at(codes, w.to.mul(w.to.shl(column, w.number(1)), width), w.i8)
            rest = [w.at(part, column, w.i32) for part in (firsts, scales, base)]

            def product(slot: Value) -> None:
                own, step = row_codes(w.to.udiv(slot, slots.of_row))
                gates = slots.inner(slot)
                to, both = w.at(gates, column, w.f32), w.to.shl(inner, w.number(1))
                w.call("product_1", own, step, width, weight, *rest, w.number(0), to, both)
                ups = w.at(gates, inner, w.f32)
                w.call("swiglu", gates, ups, column, w.to.add(column, lanes))

            slots.each_of(expert, product)

        w.fold(*vnni.share(w, w.to.udiv(inner, lanes), s.threads), 1, [], pair)

    w.fold(0, slots.all_experts, 1, [], gate_up)
    vnni.meet(w)

    def round_inner(slot: Value) -> None:
        expert = w.load(slots.ids, slot, w.i64)

        def own() -> None:
            codes, step = slots.codes(slot)
            _round(w, slots.inner(slot), w.field(slots.record(expert), EXPERT, "inner", w.i64), (codes, step))
            # What an expert counts is a factor of its answer, and so of the step.
            w.store(w.to.fmul(w.load(step, 0, w.f32), w.load(slots.gates, slot, w.f32)), step, 0)

        w.when(w.to.icmp_signed("<", expert, slots.all_experts), own)

    s.turns(slots.all, round_inner)
    pairs = vnni.share(w, w.to.udiv(width, w.number(2 * w.code.lanes)), s.threads)

    def down(expert: Value, _: list[Value]) -> None:
        record = slots.record(expert)
        codes, firsts, scales = (w.field(record, EXPERT, f"down_{name}") for name in EXPERT[:3])
        inner = w.field(record, EXPERT, "inner", w.i64)

        def product(slot: Value) -> None:
            own, step = slots.codes(slot)
            x = s.row("x", w.to.udiv(slot, slots.of_row), width)

            def pair(p: Value, _: list[Value]) -> None:
                column = w.to.mul(p, lanes)
                weight = w.at(codes, w.to.mul(w.to.shl(column, w.number(1)), inner), w.i8)
                to = w.at(x, column, w.f32)
                rest = (w.at(firsts, column, w.i32), w.at(scales, column, w.f32), to, w.number(0), to, width)
                w.call("product_1", own, step, inner, weight, *rest)

            w.fold(*pairs, 1, [], pair)

        slots.each_of(expert, product)

    w.fold(0, slots.all_experts, 1, [], down)
    vnni.meet(w)


def _route(s: Steps, routing: Routing, slots: _Slots, normed: Value, first: Value) -> None:
    """The slots of one row, of which `first` is the first."""
    w = s.w
    room = s.own("routed", w.number(routed_room(routing, w.code.lanes)))
    ids, gates = w.at(slots.ids, first, w.i64), w.at(slots.gates, first, w.f32)
    w.call("route", normed, s.task["width"], s.layer["router"], s.layer["bias"], room, ids, gates)

    def share() -> None:
        w.store(w.number(routing.experts), ids, routing.slots)
        w.store(w.real(1.0), gates, routing.slots)

    w.when(w.to.icmp_signed(">", slots.of_row, w.number(routing.slots)), share)


def _round(w: Writer, row: Value, columns: Value, to: tuple[Value, Value]) -> None:
    """A row by itself in bytes, and its step."""
    codes, step = to
    w.call("round_row", row, columns, w.number(8), codes, step)
