"""The machine code of `layer_vnni`: layers of one kind, one after the other. Here are the halves of dense layers.

Letters: R rows, F width of the feed-forward, H heads, G groups, D head width, L lanes, S positions seen.
"""

from __future__ import annotations

from kernels import vnni
from kernels.layer import Kind
from kernels.layer_experts_code import add_experts, feed_experts
from kernels.layer_latent_code import add_latent, attend_latent
from kernels.layer_parts import Seen, add_attend, add_norm, add_swiglu, add_turn, keep_row
from kernels.layer_steps import FIELDS, PRODUCT, Steps
from kernels.native import Code, Parallel, Value

AT_ONCE = 4
"""Heads of a group that look at a key together."""


def layer_code(lanes: int, kind: Kind) -> Parallel:
    """The function `layers`."""
    code = Code(lanes)
    vnni.add_rounding(code)
    vnni.add_products(code)
    add_norm(code)
    add_swiglu(code)
    if isinstance(kind.attention, int):
        add_turn(code, kind.attention)
        for heads in range(1, AT_ONCE + 1):
            add_attend(code, Seen(kind.attention, kind.attention, kind.attention), heads)
    else:
        add_latent(code, kind.attention)
    if kind.routing is not None:
        add_experts(code, kind.routing)
    _add_layers(code, kind)
    return code.parallel("layers")


def _add_layers(code: Code, kind: Kind) -> None:
    """`layers(task)`"""
    w = code.function("layers", vnni.types(code, "p"))

    def body(index: Value, _: list[Value]) -> None:
        s = Steps(w, index)
        if isinstance(kind.attention, int):
            _attend(s, kind.attention)
        else:
            attend_latent(s, kind.attention)
        if kind.routing is None:
            _feed(s)
        else:
            feed_experts(s, kind.routing)

    w.fold(0, w.field(w.arguments[0], FIELDS, "count", w.i64), 1, [], body)
    w.end()


def _attend(s: Steps, width: int) -> None:
    """Rotary attention of heads in groups, added to the residual stream."""
    w, task, heads, groups = s.w, s.task, s.layer["heads"], s.layer["groups"]
    all_heads = w.to.add(heads, w.to.add(groups, groups))
    into, attended = (w.to.mul(count, w.number(width)) for count in (all_heads, heads))

    s.multiply(s.normed("attention_gain"), "into", task["into"])
    s.turns(
        w.to.mul(s.rows, all_heads),
        lambda unit: _placed(s, width, w.to.udiv(unit, all_heads), w.to.urem(unit, all_heads)),
    )

    together = w.number(AT_ONCE)
    own = w.to.udiv(heads, groups)  # of a group
    turns = w.to.udiv(w.to.add(own, w.number(AT_ONCE - 1)), together)

    def attend(unit: Value) -> None:
        rest, turn = w.to.udiv(unit, turns), w.to.mul(w.to.urem(unit, turns), together)
        row, group = w.to.udiv(rest, groups), w.to.urem(rest, groups)
        head = w.to.mul(w.to.add(w.to.mul(group, own), turn), w.number(width))
        offset = w.to.mul(group, s.text(row, "stride"))
        keys, values = (w.at(s.text(row, name), offset, w.i16) for name in ("keys", "values"))
        seen = w.to.add(s.text(row, "position"), w.number(1))
        between = task["positions"]
        scores = s.own("scores", w.to.mul(together, between))
        query, to = w.at(s.row("into", row, into), head, w.f32), w.at(s.row("attended", row, attended), head, w.f32)
        left = w.to.sub(own, turn)
        count = w.to.select(w.to.icmp_signed("<", left, together), left, together)
        asked = (query, query, keys, keys, values, w.number(0), seen, scores, between, to)  # nothing is far
        w.choose(count, range(1, AT_ONCE + 1), lambda heads: w.call(f"attend_{heads}", *asked))

    s.turns(w.to.mul(w.to.mul(s.rows, groups), turns), attend)
    s.multiply(s.rounded(attended, lambda row: s.row("attended", row, attended)), "out", task["x"])


def _placed(s: Steps, width: int, row: Value, head: Value) -> None:
    """One head of one row: a query is turned and scaled where it is, a key or a value goes into the cache."""
    w, heads, groups = s.w, s.layer["heads"], s.layer["groups"]
    all_heads = w.to.add(heads, w.to.add(groups, groups))
    numbers = s.row("into", w.to.add(w.to.mul(row, all_heads), head), w.number(width))
    turns = w.to.icmp_signed("<", head, w.to.add(heads, groups))
    w.when(turns, lambda: w.call("turn", numbers, *s.rotation(row, 0, width), numbers))

    def scale() -> None:
        for part in range(0, width, w.code.lanes):
            w.store(w.to.fmul(w.load(numbers, part, w.floats), w.each(width**-0.5)), numbers, part)

    def keep() -> None:
        group = w.to.urem(w.to.sub(head, heads), groups)
        cache = w.to.select(turns, s.text(row, "keys"), s.text(row, "values"))
        offset = w.to.add(w.to.mul(group, s.text(row, "stride")), w.to.mul(s.text(row, "position"), w.number(width)))
        keep_row(w, numbers, width, w.at(cache, offset, w.i16))

    is_query = w.to.icmp_signed("<", head, heads)
    w.when(is_query, scale)
    w.when(w.to.not_(is_query), keep)


def _feed(s: Steps) -> None:
    """SwiGLU, added to the residual stream."""
    w = s.w
    both = w.field(s.layer["gate_up"], PRODUCT, "features", w.i64)
    inner = w.to.lshr(both, w.number(1))

    def swiglu(first: Value, last: Value) -> None:
        lanes = w.number(w.code.lanes)

        def body(row: Value, _: list[Value]) -> None:
            gates = s.row("inner", row, both)
            w.call("swiglu", gates, w.at(gates, inner, w.f32), w.to.mul(first, lanes), w.to.mul(last, lanes))

        w.fold(0, s.rows, 1, [], body)

    s.multiply(s.normed("feed_forward_gain"), "gate_up", s.task["inner"], swiglu)
    s.multiply(s.rounded(inner, lambda row: s.row("inner", row, both)), "down", s.task["x"])
