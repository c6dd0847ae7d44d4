"""Layers with eight-bit weights in one call of machine code, whose threads meet between its steps.

Each number is computed by one thread, in an order that depends on neither the other rows nor the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import layer_code, layer_latent_code, native, vnni
from kernels.backend import Packed
from kernels.layer import Dense, Experts, GroupedQuery, Kind, Latent, LatentKind, Layer, Product, Text
from kernels.layer_experts_code import routed_room
from kernels.layer_parts import pieces
from kernels.layer_steps import EXPERT, FIELDS, LAYER, PRODUCT, ROOMS
from kernels.native import Parallel
from kernels.vnni import COLUMNS, Data

WIDTHS = (32, 64, 96, 128, 256)
"""D that there is code for."""
LINE = 64
"""Bytes that a processor reads at once: threads do not write into each other's."""

Record = ctypes.Array[ctypes.c_int64]


class Prepared(NamedTuple):
    """A layer, and where its parts lie as machine code reads it."""

    layer: Layer
    function: Future[Parallel]
    record: Record
    kept: tuple[object, ...]
    """What `record` leads to."""


def kind_problem(kind: Kind) -> str | None:
    lanes = native.lanes()
    if not lanes:
        return "this processor has no product of bytes that we can write"
    if isinstance(kind.attention, int):
        if kind.attention not in WIDTHS or kind.attention % (2 * lanes):
            return f"heads of width {kind.attention}"
    elif kind.attention.rotary % (2 * lanes) or kind.attention.latent % lanes or kind.attention.value % lanes:
        return f"latents of width {kind.attention.latent} for heads of {kind.attention.value}"
    if kind.routing is not None and kind.routing.threshold:
        return "a threshold of router mass"
    return None


def problem(layer: Layer) -> str | None:
    """Of a layer of a kind that there is no problem with."""
    lanes, half, fed = native.lanes(), layer.attention, layer.feed_forward
    weights = [product.weight for product in layer.products]
    packed = [*weights, *(part for product in layer.products for part in product.pair or ())]
    if isinstance(fed, Experts):
        packed += [*fed.gate_up, *fed.down, *(fed.shared or ())]
        weights += [*fed.down, *(fed.shared or ())[1:]]
        if any(each.shape[0] % (2 * lanes) for each in (*fed.gate_up, *(fed.shared or ())[:1])):
            return "experts whose features do not fill vectors"
    if not all(isinstance(part.data, Data) for part in packed):
        return "their weights are packed for another backend"
    if any(rows % (2 * lanes) or columns % COLUMNS for rows, columns in (weight.shape for weight in weights)):
        return "rows or columns that do not fill vectors"
    biased = [half.out, *((fed.gate_up, fed.down) if isinstance(fed, Dense) else ())]
    if any(product.bias is not None for product in biased):
        return "biases beside those that attention begins with"
    return None


def prepare(kind: Kind) -> None:
    if kind_problem(kind) is None:
        _function(native.lanes(), kind)


def pack(layer: Layer) -> Prepared:
    gains = tuple(gain.float().contiguous() for gain in (layer.attention_gain, layer.feed_forward_gain))
    eps = torch.tensor([layer.eps])
    fields: dict[str, object] = {"attention_gain": gains[0], "feed_forward_gain": gains[1], "eps": eps}
    half, fed = layer.attention, layer.feed_forward
    fields["into"] = _record(half.into, half.into.weight.data.zeros if half.into.bias is None else half.into.bias)
    fields["out"] = _record(half.out, None)
    if isinstance(half, GroupedQuery):
        fields |= {"heads": half.heads, "groups": half.groups}
    else:
        fields |= _latent_fields(half)
    if isinstance(fed, Dense):
        fields["gate_up"] = _record(fed.gate_up, fed.gate_up.weight.data.zeros)
        fields["down"] = _record(fed.down, None)
    else:
        fields |= _expert_fields(fed)
    places = {name: _place(value) for name, value in fields.items()}
    record = (ctypes.c_int64 * len(LAYER))(*(places.get(name, 0) for name in LAYER))
    return Prepared(layer, _function(native.lanes(), layer.kind), record, tuple(fields.values()))


def _latent_fields(half: Latent) -> dict[str, object]:
    by_head = half.up.to(torch.bfloat16).unflatten(0, (half.heads, -1))
    tempers = torch.ones(2, half.heads) if half.tempers is None else half.tempers.float()
    found: dict[str, object] = {
        "key_up": by_head[:, : half.plain].contiguous(),
        "value_up": by_head[:, half.plain :].transpose(1, 2).contiguous(),
        "factors": (tempers * half.scale).contiguous(),
        "latent_eps": torch.tensor([half.eps]),
        "window": 0 if half.window is None else half.window,
    }
    return found if half.gain is None else found | {"latent_gain": half.gain.float().contiguous()}


def _expert_fields(fed: Experts) -> dict[str, object]:
    shared = [] if fed.shared is None else [fed.shared]
    bias = torch.zeros(fed.routing.experts) if fed.bias is None else fed.bias.float()
    rows = [_expert(*both) for both in (*zip(fed.gate_up, fed.down, strict=True), *shared)]
    flat = [place for row in rows for place in row]
    return {
        "router": fed.router.float().contiguous(),
        "bias": F.pad(bias, (0, -len(bias) % native.lanes())),
        "experts": (ctypes.c_int64 * len(flat))(*flat),
        "shared": len(shared),
        "largest": max(row[EXPERT.index("inner")] for row in rows),
    }


def _expert(gate_up: Packed, down: Packed) -> tuple[int, ...]:
    """The fields of an expert."""
    first, last = gate_up.data, down.data
    parts = (first.codes, first.firsts, first.scales, first.zeros, last.codes, last.firsts, last.scales)
    return (*(part.data_ptr() for part in parts), last.columns)


def _record(product: Product, base: Tensor | None) -> tuple[Record, Tensor | None]:
    """A product's fields; without a base it is added to the residual stream."""

    def fields(data: Data) -> tuple[int, ...]:
        parts = (data.codes, data.firsts, data.scales, data.zeros)
        return (*(part.data_ptr() for part in parts), len(data.scales), data.columns)

    pair = (0,) * 12 if product.pair is None else tuple(field for part in product.pair for field in fields(part.data))
    main = fields(product.weight.data)
    base = None if base is None else base.float().contiguous()
    below = 0 if base is None else base.data_ptr()
    return (ctypes.c_int64 * len(PRODUCT))(*main[:3], below, *main[4:], *pair), base


def _place(value: Any) -> int:
    """A number as it is, and where something else lies."""
    if isinstance(value, int):
        return value
    if isinstance(value, Tensor):
        return value.data_ptr()
    return ctypes.addressof(value[0] if isinstance(value, tuple) else value)


def layer(
    x: Tensor,
    layers: Sequence[Prepared],
    rotation: Sequence[Tensor],
    texts: Sequence[Sequence[Text]],
    adapted: bool,
) -> tuple[Tensor, list[Tensor]]:
    first = layers[0]
    count, width = x.shape
    y = x.clone(memory_format=torch.contiguous_format)
    turns = [part.contiguous() for part in rotation]
    table = [
        place
        for own in texts
        for text in own
        for position in range(text.start, text.start + text.rows)
        for place in (text.kept[0].data_ptr(), text.kept[-1].data_ptr(), position, text.kept[0][0].numel())
    ]
    seen = max(text.start + text.rows for text in texts[0])
    slots = _slots(first.layer)
    ids = torch.empty(len(layers), count, slots, dtype=torch.int64)
    sizes = _rooms(first.layer, count, seen, native.lanes())
    ends = list(accumulate((-(-sizes.get(name, 0) // LINE) * LINE for name in ROOMS), initial=0))
    scratch = torch.empty(ends[-1], dtype=torch.uint8)
    records = (ctypes.c_int64 * len(layers))(*(ctypes.addressof(each.record) for each in layers))
    rows = (ctypes.c_int64 * len(table))(*table)
    rotations = (ctypes.c_int64 * len(turns))(*(part.data_ptr() for part in turns))
    rank = max(_rank(each.layer) for each in layers)
    task = (ctypes.c_int64 * len(FIELDS))(
        y.data_ptr(),
        *(ctypes.addressof(part) for part in (records, rows, rotations)),
        ids.data_ptr(),
        *(scratch.data_ptr() + begin for begin in ends[:-1]),
        len(layers),
        count,
        width,
        _filled(seen),
        vnni.room(count, rank),
        int(adapted and rank > 0),
    )
    first.function.result()(task)
    routed = first.layer.kind.routing
    return y, list(ids[..., : 0 if routed is None else routed.slots])


def _rank(layer: Layer) -> int:
    """r of its adapter, filled up to whole pairs of vectors; 0: none."""
    return max((len(part.pair[0].data.scales) for part in layer.products if part.pair), default=0)


def _slots(layer: Layer) -> int:
    """Of a row, the shared experts' among them."""
    fed = layer.feed_forward
    return 0 if isinstance(fed, Dense) else fed.routing.slots + (fed.shared is not None)


def _filled(seen: int) -> int:
    """Room for so many scores, and a vector more."""
    return (seen // COLUMNS + 2) * COLUMNS


def _rooms(layer: Layer, rows: int, seen: int, lanes: int) -> dict[str, int]:
    """Bytes of ROOMS."""
    half, fed, threads = layer.attention, layer.feed_forward, torch.get_num_threads()
    into, attended = half.into.weight.shape[0], half.out.weight.shape[1]
    width, rank = layer.attention.into.weight.shape[1], _rank(layer)
    found = {"into": into, "attended": attended, "low": rank}
    widest = max(width, attended)
    at_once = layer_code.AT_ONCE
    if isinstance(half, Latent):
        kind = layer.kind.attention
        assert isinstance(kind, LatentKind)
        at_once = pieces(half.heads, layer_latent_code.AT_ONCE)[0]
        query = half.heads * (half.rotary + half.latent)
        found |= {"near": query, "far": query, "made": layer_latent_code.row_width(kind)}
    if isinstance(fed, Dense):
        inner = fed.gate_up.weight.shape[0]
        widest = max(widest, inner // 2)
        found |= {"normed": width, "inner": inner}
    else:
        slots = _slots(layer)
        inner = max(each.shape[0] for each in (*fed.gate_up, *(fed.shared or ())[:1]))
        found |= {"normed": 2 * width, "inner": slots * inner, "gates": slots}
    bytes_ = {name: 4 * rows * numbers for name, numbers in found.items()}
    bytes_ |= {
        "codes": vnni.room(rows, widest),
        "low_codes": threads * vnni.room(rows, rank),
        "scores": 4 * threads * at_once * _filled(seen),
    }
    if isinstance(half, Latent):
        bytes_["seen"] = 4 * threads * at_once * half.latent
    if isinstance(fed, Experts):
        bytes_["inner_codes"] = rows * _slots(layer) * (inner + 4)
        bytes_["routed"] = 4 * threads * routed_room(fed.routing, lanes)
    return bytes_


@cache
def _function(lanes: int, kind: Kind) -> Future[Parallel]:
    return native.soon(lambda: layer_code.layer_code(lanes, kind))
