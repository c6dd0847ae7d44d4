"""The layers of a decoder as one launch takes them: their weights where they are, found through a table of places.

Letters: L layers, K width, F width of the feed-forward, H heads, G groups, D head width, S capacity, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.weights import Stream, Weight, stream

MOST_ROWS = 8
"""Rows of a pass."""

CHUNK = 256
"""Keys that one program sees at a time."""

PHASES = 5
"""Of a layer: queries, keys, values; attention; output projection; gate, up; down."""

FIELDS = 13
"""Places of a layer: two gains, four weights, their factors, a bias, keys, values."""

TILE = 8
"""Rows of a weight that a program multiplies at a time."""

SOON = 1
"""Tiles of gate and up that are copied a layer ahead; the others while their layer attends."""

UNIT = 16
"""Bytes that places are counted in: what is copied at once."""


class LayerWeights(NamedTuple):
    """What a layer reads, and the rows of its cache."""

    attention_gain: Tensor  # [K], bfloat16 or fp32, as the other gain and the bias
    feed_forward_gain: Tensor  # [K]
    eps: float
    qkv: Weight  # [(H + 2G)·D, K]
    bias: Tensor | None  # [(H + 2G)·D]
    out: Weight  # [K, H·D]
    gate_up: Weight  # [2F, K]
    down: Weight  # [K, F]
    keys: Tensor  # [G, S, D]
    values: Tensor  # [G, S, D]

    @property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(stream(weight) for weight in (self.qkv, self.out, self.gate_up, self.down))

    @property
    def heads(self) -> int:
        return self.streams[0].shape[0] // self.keys.shape[2] - 2 * self.keys.shape[0]


class Stack(NamedTuple):
    """Layers of one shape. `table` says where each one's tensors are, in units of 16 bytes from the first one's."""

    layers: tuple[LayerWeights, ...]
    table: Tensor  # int64 [L, FIELDS]
    room: Room


class Room(NamedTuple):
    """What phases leave for one another, for all passes of one stream; what is not yet written there is NaN."""

    q: Tensor  # bfloat16 [R, H·D]
    means: Tensor  # fp32 [R, H, C, D]
    sums: Tensor  # fp32 [R, H, C]
    inner: Tensor  # bfloat16 [R, F]
    counter: Tensor  # int32 [2], programs that have come to a barrier, and to the end: zero between launches


def unstackable(layers: Sequence[LayerWeights]) -> str | None:
    """Why layers cannot be computed in one launch, in a few words; None if they can."""
    first = layers[0]
    groups, _, width = first.keys.shape
    of = first.streams
    if any(each.bits != of[0].bits or each.group != of[0].group for layer in layers for each in layer.streams):
        return "their weights are in different formats"
    if of[0].bits not in (16, 4) or first.keys.dtype != torch.bfloat16:
        return "they are not computed in bfloat16"
    if of[0].bits == 16 and not all(each.numbers.dtype == torch.bfloat16 for each in of):
        return "their weights are not bfloat16"
    if width not in (32, 64, 128) or first.heads % groups or first.heads // groups > 16:
        return f"{first.heads} heads of width {width} in {groups} groups"
    if any(columns % 32 for columns in (each.shape[1] for each in of)):
        return "their rows are not whole copies"
    small = (first.attention_gain, first.feed_forward_gain, first.bias)
    if len({part.dtype for part in small if part is not None}) > 1:
        return "their gains and biases are of different kinds"
    if any(_shapes(layer) != _shapes(first) or layer.eps != first.eps for layer in layers):
        return "they differ in shape"
    places = [part for layer in layers for part in _parts(layer)]
    if any(part.data_ptr() % UNIT or not part.is_contiguous() for part in places):
        return "their weights do not lie at multiples of 16 bytes"
    return None


def stack(layers: Sequence[LayerWeights]) -> Stack:
    """Layers that `unstackable` has nothing against. Their tensors must stay where they are."""
    first = layers[0]
    base = [part.data_ptr() for part in _bases(first)]
    rows = [
        [(part.data_ptr() - begin) // UNIT for part, begin in zip(_parts(layer), base, strict=True)] for layer in layers
    ]
    table = torch.tensor(rows, dtype=torch.int64, device=first.keys.device)
    return Stack(tuple(layers), table, _room(first))


class Plan(NamedTuple):
    """How a layer's products are shared among programs, in tiles, and shared memory, in rooms: see `layers_gluon`."""

    tiles: int  # of eight rows, of gate as of up, that a program has
    turn: int  # rooms that down shares with the queries, keys, values and the output projection


def plan(layer: LayerWeights, programs: int, rooms: int, warps: int) -> Plan | None:
    """The plan for `programs` programs that have `rooms` rooms each; None if there are too few."""
    qkv, out, gate_up, down = layer.streams
    columns = 32 * warps * (4 if qkv.bits == 4 else 1)  # of a room

    def per_program(rows: int) -> int:
        return -(-rows // (TILE * programs))

    def needed(of: Stream) -> int:
        return per_program(of.shape[0]) * -(-of.shape[1] // columns)

    tiles = per_program(gate_up.shape[0] // 2)
    gates = 2 * tiles * -(-gate_up.shape[1] // columns)
    turn = min(rooms - gates, max(needed(down), needed(qkv) + needed(out)))
    late = gates - gates // tiles * min(SOON, tiles)
    return Plan(tiles, turn) if turn >= needed(qkv) + needed(out) and needed(down) <= turn + late else None


def _room(layer: LayerWeights) -> Room:
    _, capacity, width = layer.keys.shape
    device, heads = layer.keys.device, layer.heads
    chunks = -(-capacity // CHUNK)

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.full(shape, torch.nan, dtype=dtype, device=device)

    return Room(
        empty(MOST_ROWS, heads * width, dtype=torch.bfloat16),
        empty(MOST_ROWS, heads, chunks, width),
        empty(MOST_ROWS, heads, chunks),
        empty(MOST_ROWS, layer.streams[3].shape[1], dtype=torch.bfloat16),
        torch.zeros(2, dtype=torch.int32, device=device),
    )


def _parts(layer: LayerWeights) -> list[Tensor]:
    """In the order of a row of the table. What is not there stands for itself: nobody reads it."""
    of = layer.streams
    return [
        layer.attention_gain,
        layer.feed_forward_gain,
        *(each.numbers for each in of),
        *(each.factors for each in of),
        layer.attention_gain if layer.bias is None else layer.bias,
        layer.keys,
        layer.values,
    ]


def _bases(layer: LayerWeights) -> list[Tensor]:
    """What each place of a row is counted from: the kernel has one pointer to gains, one to weights, and so on."""
    parts = _parts(layer)
    gain, weight, factor, keys = parts[0], parts[2], parts[6], parts[11]
    return [gain] * 2 + [weight] * 4 + [factor] * 4 + [gain] + [keys] * 2


def _shapes(layer: LayerWeights) -> list[tuple[int, ...]]:
    return [tuple(part.shape) for part in _parts(layer)]
