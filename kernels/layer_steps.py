"""What the steps of a layer in machine code have in common: the task's fields, whose turn it is, rounding and products.

Letters: R rows, K width, N features out.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels import vnni
from kernels.native import Value, Writer

ROOMS = (
    "codes",  # rows in bytes
    "normed",
    "into",  # what attention begins with
    "near", "far",  # latent attention's queries
    "made",  # its new rows
    "seen",  # what a head has seen of the latents, for each thread
    "attended",
    "inner",
    "inner_codes",
    "gates",  # of the chosen experts
    "routed",  # for each thread
    "low",  # what an adapter's first matrices give
    "low_codes",  # for each thread
    "scores",  # for each thread
)  # fmt: skip
"""What the steps leave for one another."""
_ADDRESSES = ("x", "layers", "texts", "rotation", "ids", *ROOMS)
FIELDS = (*_ADDRESSES, "count", "rows", "width", "positions", "low_room", "adapted")
"""Of a task. layers: addresses; texts: of all rows, layer by layer; rotation: addresses of cosines and signed sines."""
_NUMBERS = ("heads", "groups", "window", "shared", "largest")
LAYER = (
    "attention_gain", "feed_forward_gain", "eps", "into", "out",
    "latent_gain", "latent_eps", "key_up", "value_up", "factors",
    "gate_up", "down", "router", "bias", "experts",
    *_NUMBERS,
)  # fmt: skip
"""Of a layer, of which each kind has some. factors: of near and far scores, for each head. experts: their records.
shared: is there one more of them; largest: features inside an expert, at most."""
_WEIGHT = ("codes", "firsts", "scales", "base", "features", "columns")
PRODUCT = (*_WEIGHT, *(f"down_{name}" for name in _WEIGHT), *(f"up_{name}" for name in _WEIGHT))
"""Of a product, with its pair's: zeros if it has none."""
EXPERT = ("codes", "firsts", "scales", "base", "down_codes", "down_firsts", "down_scales", "inner")
"""Of an expert: its gate and up, and what it ends in."""
TEXT = ("keys", "values", "position", "stride")
"""Of a row: what its text keeps, its position, and how far a group's rows are from the next one's."""


class Steps:
    """The steps of layer `index` of a task."""

    def __init__(self, w: Writer, index: Value) -> None:
        self.w = w
        (task,) = w.arguments
        self.task = {name: w.field(task, FIELDS, name, None if name in _ADDRESSES else w.i64) for name in FIELDS}
        self.rows = self.task["rows"]
        layer = w.to.load(w.at(self.task["layers"], index, w.i64), typ=w.pointer, align=8)
        self.layer = {name: w.field(layer, LAYER, name, w.i64 if name in _NUMBERS else None) for name in LAYER}
        self.texts = w.at(self.task["texts"], w.to.mul(index, w.to.mul(self.rows, w.number(len(TEXT)))), w.i64)
        self.index = index
        self.threads = vnni.threads(w)

    def row(self, name: str, row: Value, stride: Value) -> Value:
        """Row `row` of a field, fp32."""
        return self.w.at(self.task[name], self.w.to.mul(row, stride), self.w.f32)

    def own(self, name: str, count: Value) -> Value:
        """This thread's part of a room in which each has so many numbers."""
        return self.row(name, self.threads[0], count)

    def text(self, row: Value, name: str) -> Value:
        """A field of a row's text."""
        w = self.w
        place = w.at(self.texts, w.to.mul(row, w.number(len(TEXT))), w.i64)
        return w.field(place, TEXT, name, w.pointer if name in ("keys", "values") else w.i64)

    def rotation(self, row: Value, number: int, width: int) -> list[Value]:
        """Cosines and signed sines of a row, of the pair of this number."""
        w = self.w
        parts = (w.to.load(w.at(self.task["rotation"], 2 * number + i, w.i64), typ=w.pointer, align=8) for i in (0, 1))
        return [w.at(part, w.to.mul(row, w.number(width)), w.f32) for part in parts]

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

    def norm(self, gain: str, row: Value, to: Value) -> None:
        """The norm of a row of the residual stream."""
        w, width = self.w, self.task["width"]
        w.call("norm", self.row("x", row, width), self.layer[gain], self.layer["eps"], width, to)

    def normed(self, gain: str) -> vnni.Rounded:
        """The residual stream's norm, in bytes."""
        width = self.task["width"]

        def begin(row: Value) -> Value:
            to = self.row("normed", row, width)
            self.norm(gain, row, to)
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
