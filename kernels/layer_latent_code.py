"""Latent attention in machine code, absorbed: what is cached is key and value for all heads.

Letters: R rows, H heads, P features of a query without position, T rotary ones, C latent width, V features of a value.
"""

from __future__ import annotations

from kernels import vnni
from kernels.layer import LatentKind
from kernels.layer_parts import Seen, add_attend, add_turn, copy_row, keep_row, pieces
from kernels.layer_steps import Steps
from kernels.native import Code, Value

AT_ONCE = 5
"""Heads that look at a key together, at most."""


def row_width(kind: LatentKind) -> int:
    """Numbers of a cached row: near key, latent and, for grouped positions, far key."""
    return kind.rotary * (1 + kind.grouped) + kind.latent


def add_latent(code: Code, kind: LatentKind) -> None:
    """The functions that `attend_latent` calls."""
    add_turn(code, kind.rotary)
    for heads in pieces(kind.heads, AT_ONCE)[1]:
        add_attend(code, Seen(kind.rotary + kind.latent, kind.latent, row_width(kind)), heads)
    _add_mixed(code, "absorb", kind.plain, kind.latent)
    _add_mixed(code, "raise", kind.latent, kind.value)


def _add_mixed(code: Code, name: str, count: int, width: int) -> None:
    """`NAME(x, rows, y)`: Σ x[i] · rows[i], of `count` rows of bfloat16 that are `width` wide."""
    w = code.function(name, vnni.types(code, "ppp"))
    x, rows, y = w.arguments
    parts = range(0, width, code.lanes)

    def add(i: Value, sums: list[Value]) -> list[Value]:
        weight, own = w.spread(w.load(x, i, w.f32)), w.at(rows, w.to.mul(i, w.number(width)), w.i16)
        return [w.math("fma", weight, w.widened(own, part), total) for part, total in zip(parts, sums, strict=True)]

    for part, total in zip(parts, w.fold(0, count, 1, [w.each(0.0) for _ in parts], add), strict=True):
        w.store(total, y, part)
    w.end()


def attend_latent(s: Steps, kind: LatentKind) -> None:
    """Latent attention, added to the residual stream."""
    w, heads = s.w, s.w.number(kind.heads)
    into = w.number(kind.heads * (kind.plain + kind.rotary) + kind.latent + kind.rotary)
    attended = w.number(kind.heads * kind.value)
    s.multiply(s.normed("attention_gain"), "into", s.task["into"])

    units = w.number(kind.heads + 1)  # the last one makes the row

    def place(unit: Value) -> None:
        row, head = w.to.udiv(unit, units), w.to.urem(unit, units)
        numbers = s.row("into", row, into)
        is_query = w.to.icmp_signed("<", head, heads)
        w.when(is_query, lambda: _query(s, kind, row, head, numbers))
        w.when(w.to.not_(is_query), lambda: _row(s, kind, row, numbers))

    s.turns(w.to.mul(s.rows, units), place)
    at_once, sizes = pieces(kind.heads, AT_ONCE)
    turns = w.number(-(-kind.heads // at_once))

    def attend(unit: Value) -> None:
        row, turn = w.to.udiv(unit, turns), w.to.urem(unit, turns)
        first = w.to.mul(turn, w.number(at_once))
        left = w.to.sub(heads, first)
        w.choose(
            w.to.select(w.to.icmp_signed("<", left, w.number(at_once)), left, w.number(at_once)),
            sizes,
            lambda count: _heads(s, kind, row, first, count),
        )

    s.turns(w.to.mul(s.rows, turns), attend)
    s.multiply(s.rounded(attended, lambda row: s.row("attended", row, attended)), "out", s.task["x"])


def _query(s: Steps, kind: LatentKind, row: Value, head: Value, numbers: Value) -> None:
    """A query for near rows, and one for far ones: what asks for the latent is made of what has no position."""
    w = s.w
    own = w.at(numbers, w.to.mul(head, w.number(kind.plain + kind.rotary)), w.f32)
    turning = w.at(own, kind.plain, w.f32)
    near, far = (_at_head(s, kind, name, row, head) for name in ("near", "far"))
    absorbed = w.at(near, kind.rotary, w.f32)
    key_up = w.at(s.layer["key_up"], w.to.mul(head, w.number(kind.plain * kind.latent)), w.i16)
    w.call("turn", turning, *s.rotation(row, 0, kind.rotary), near)
    w.call("absorb", own, key_up, absorbed)
    if kind.grouped:
        w.call("turn", turning, *s.rotation(row, 1, kind.rotary), w.at(far, kind.latent, w.f32))
        copy_row(w, absorbed, kind.latent, far)
    factors = w.at(s.layer["factors"], head, w.f32)
    for query, place in ((near, 0), (far, kind.heads))[: 1 + kind.grouped]:
        factor = w.spread(w.load(factors, place, w.f32))
        for part in range(0, kind.rotary + kind.latent, w.code.lanes):
            w.store(w.to.fmul(w.load(query, part, w.floats), factor), query, part)


def _row(s: Steps, kind: LatentKind, row: Value, numbers: Value) -> None:
    """What a position leaves in the cache."""
    w = s.w
    latent = w.at(numbers, kind.heads * (kind.plain + kind.rotary), w.f32)
    key = w.at(latent, kind.latent, w.f32)
    made = s.row("made", row, w.number(row_width(kind)))
    w.call("turn", key, *s.rotation(row, 0, kind.rotary), made)
    to = w.at(made, kind.rotary, w.f32)
    if kind.normed:
        w.call("norm", latent, s.layer["latent_gain"], s.layer["latent_eps"], w.number(kind.latent), to)
    else:
        copy_row(w, latent, kind.latent, to)
    if kind.grouped:
        w.call("turn", key, *s.rotation(row, 2, kind.rotary), w.at(to, kind.latent, w.f32))
    offset = w.to.mul(s.text(row, "position"), w.number(row_width(kind)))
    keep_row(w, made, row_width(kind), w.at(s.text(row, "keys"), offset, w.i16))


def _heads(s: Steps, kind: LatentKind, row: Value, first: Value, count: int) -> None:
    """What some heads see of the latents, and what that is of their values."""
    w, at_once = s.w, pieces(kind.heads, AT_ONCE)[0]
    near, far = (_at_head(s, kind, name, row, first) for name in ("near", "far"))
    keys = s.text(row, "keys")
    latents = w.at(keys, kind.rotary, w.i16)  # where a far key begins as well
    seen = w.to.add(s.text(row, "position"), w.number(1))
    behind = w.to.sub(seen, s.layer["window"]) if kind.grouped else w.number(0)
    far_ones = w.to.select(w.to.icmp_signed(">", behind, w.number(0)), behind, w.number(0))
    between = s.task["positions"]
    scores = s.own("scores", w.to.mul(w.number(at_once), between))
    to = s.own("seen", w.number(at_once * kind.latent))
    w.call(f"attend_{count}", near, far, keys, latents, latents, far_ones, seen, scores, between, to)
    value_up = w.at(s.layer["value_up"], w.to.mul(first, w.number(kind.latent * kind.value)), w.i16)
    attended = s.row("attended", row, w.number(kind.heads * kind.value))
    attended = w.at(attended, w.to.mul(first, w.number(kind.value)), w.f32)
    for head in range(count):
        own = w.at(value_up, head * kind.latent * kind.value, w.i16)
        w.call("raise", w.at(to, head * kind.latent, w.f32), own, w.at(attended, head * kind.value, w.f32))


def _at_head(s: Steps, kind: LatentKind, name: str, row: Value, head: Value) -> Value:
    w = s.w
    return s.row(name, w.to.add(w.to.mul(row, w.number(kind.heads)), head), w.number(kind.rotary + kind.latent))
