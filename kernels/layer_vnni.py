"""A layer with eight-bit weights in one call of machine code, whose threads meet between its steps.

Each number is computed by one thread, in an order that depends on neither the other rows nor the number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import native, vnni
from kernels.layer import Layer, Product, Text
from kernels.layer_code import AT_ONCE, FIELDS, LAYER, PRODUCT, layer_code
from kernels.native import Parallel
from kernels.vnni import COLUMNS, Data

WIDTHS = (32, 64, 96, 128, 256)
"""D that there is code for."""
LINE = 64
"""Bytes that a processor reads at once: threads do not write into each other's."""


class Prepared(NamedTuple):
    """A layer, and where its parts lie as machine code reads it."""

    layer: Layer
    function: Future[Parallel]
    places: ctypes.Array[ctypes.c_int64]
    kept: tuple[object, ...]
    """What `places` leads to."""


def problem(layer: Layer) -> str | None:
    lanes = native.lanes()
    if not lanes:
        return "this processor has no product of bytes that we can write"
    if layer.width not in WIDTHS or layer.width % (2 * lanes):
        return f"heads of width {layer.width}"
    weights = [product.weight for product in layer.products]
    packed = [*weights, *(part for product in layer.products for part in product.pair or ())]
    if not all(isinstance(part.data, Data) for part in packed):
        return "their weights are packed for another backend"
    if any(rows % (2 * lanes) or columns % COLUMNS for rows, columns in (weight.shape for weight in weights)):
        return "rows or columns that do not fill vectors"
    if layer.out.bias is not None or layer.gate_up.bias is not None or layer.down.bias is not None:
        return "biases beside those of queries, keys and values"
    return None


def prepare(width: int) -> None:
    if width in WIDTHS and width % (2 * native.lanes()) == 0:
        _function(native.lanes(), width)


def pack(layer: Layer) -> Prepared:
    gains = tuple(gain.float().contiguous() for gain in (layer.attention_gain, layer.feed_forward_gain))
    eps = torch.tensor([layer.eps])
    bias = layer.qkv.bias
    bases = [layer.qkv.weight.data.zeros if bias is None else bias.float().contiguous(), None, None, None]
    bases[2] = layer.gate_up.weight.data.zeros
    records = [_record(product, base) for product, base in zip(layer.products, bases, strict=True)]
    places = (ctypes.c_int64 * len(LAYER))(
        *(gain.data_ptr() for gain in gains),
        eps.data_ptr(),
        *(ctypes.addressof(record) for record in records),
        layer.heads,
        layer.groups,
    )
    return Prepared(layer, _function(native.lanes(), layer.width), places, (gains, eps, bases, records))


def _record(product: Product, base: Tensor | None) -> ctypes.Array[ctypes.c_int64]:
    """A product's fields; without a base it is added to the residual stream."""

    def fields(data: Data) -> tuple[int, ...]:
        parts = (data.codes, data.firsts, data.scales, data.zeros)
        return (*(part.data_ptr() for part in parts), len(data.scales), data.columns)

    pair = (0,) * 12 if product.pair is None else tuple(field for part in product.pair for field in fields(part.data))
    main = fields(product.weight.data)
    below = 0 if base is None else base.data_ptr()
    return (ctypes.c_int64 * len(PRODUCT))(*main[:3], below, *main[4:], *pair)


def layer(x: Tensor, data: Prepared, rotation: tuple[Tensor, Tensor], texts: Sequence[Text], adapted: bool) -> Tensor:
    made = data.layer
    count, width = x.shape
    y = x.clone(memory_format=torch.contiguous_format)
    cos, sin = (part.contiguous() for part in rotation)
    table = [
        place
        for text in texts
        for position in range(text.start, text.start + text.rows)
        for place in (text.keys.data_ptr(), text.values.data_ptr(), position, text.keys[0].numel())
    ]
    rows = (ctypes.c_int64 * len(table))(*table)
    threads = torch.get_num_threads()
    seen = -(-max(text.start + text.rows for text in texts) // COLUMNS) * COLUMNS
    inner = made.gate_up.weight.shape[0]
    queries, attended = made.qkv.weight.shape[0], made.out.weight.shape[1]
    rank = max((len(part.pair[0].data.scales) for part in made.products if part.pair), default=0)
    sizes = (  # of ROOMS
        vnni.room(count, max(width, attended, inner // 2)),
        *(4 * count * columns for columns in (width, queries, attended, inner, rank)),
        threads * vnni.room(count, rank),
        4 * threads * AT_ONCE * seen,
    )
    ends = list(accumulate((-(-size // LINE) * LINE for size in sizes), initial=0))
    scratch = torch.empty(ends[-1], dtype=torch.uint8)
    task = (ctypes.c_int64 * len(FIELDS))(
        y.data_ptr(),
        ctypes.addressof(data.places),
        cos.data_ptr(),
        sin.data_ptr(),
        ctypes.addressof(rows),
        *(scratch.data_ptr() + begin for begin in ends[:-1]),
        count,
        width,
        seen,
        vnni.room(count, rank),
        int(adapted and rank > 0),
    )
    data.function.result()(task)
    return y


@cache
def _function(lanes: int, width: int) -> Future[Parallel]:
    return native.soon(lambda: layer_code(lanes, width))
