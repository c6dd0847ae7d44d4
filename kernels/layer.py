"""Decoder layers with eight-bit weights over few rows, in one call: what a processor needs beside its products.

Between two products lie a norm, a rotation, a softmax: microseconds of work, and as operators of PyTorch tens of
microseconds of calls each. A layer is x + attention(norm(x)), then x + feed_forward(norm(x)), each half of either kind.
Letters: R rows, K width, F width of the feed-forward, H heads, G groups, D head width, S capacity of a cache, r rank of
an adapter's pair; of latent attention C latent width, P features of a key without position, T rotary ones, V those of a
value; E experts, I features inside an expert, N slots of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import backend
from kernels.backend import Packed
from kernels.checks import expect, expect_shape, solid
from kernels.experts import Routing

OP = "layer"


class Product(NamedTuple):
    """x Wᵀ + b, and where the layer is adapted + x downᵀ upᵀ."""

    weight: Packed  # of `int8_linear`: [N, K]
    bias: Tensor | None  # fp32 [N]
    pair: tuple[Packed, Packed] | None  # of `int8_linear`: down [r, K], up [N, r]


class GroupedQuery(NamedTuple):
    """Rotary attention of H heads in G groups. A text keeps bfloat16 keys [G, S, D] and values [G, S, D]."""

    into: Product  # queries, keys and values: [(H + 2G)·D, K]
    out: Product  # [K, H·D]
    groups: int
    width: int  # D

    @property
    def heads(self) -> int:
        return self.into.weight.shape[0] // self.width - 2 * self.groups


class Latent(NamedTuple):
    """Latent attention, absorbed (`model.attention.mla`). A text keeps bfloat16 rows [1, S, T + C], or T more of them.

    With a window the positions of a text are grouped: keys that are further back have rotary features of their own,
    which are kept behind the latent.
    """

    into: Product  # queries, the latent and the rotary key: [H·(P + T) + C + T, K]
    gain: Tensor | None  # [C], of the latent's norm, if it has one
    eps: float
    up: Tensor  # bfloat16 [H·(P + V), C]: each head's keys and values
    out: Product  # [K, H·V]
    heads: int
    rotary: int  # T
    scale: float  # of the scores
    tempers: Tensor | None  # [2, H]: what near and far scores are multiplied with besides
    window: int | None  # positions that are near; None: all of them

    @property
    def latent(self) -> int:
        return self.up.shape[1]

    @property
    def value(self) -> int:
        return self.out.weight.shape[1] // self.heads

    @property
    def plain(self) -> int:
        return self.up.shape[0] // self.heads - self.value


class Dense(NamedTuple):
    """SwiGLU, its gate before its up."""

    gate_up: Product  # [2F, K]
    down: Product  # [K, F]


class Experts(NamedTuple):
    """Σ gate · SwiGLU of the chosen ones, and that of shared ones, which are one wider expert (`kernels.experts`)."""

    router: Tensor  # fp32 [E, K]
    bias: Tensor | None  # fp32 [E], for choosing alone
    routing: Routing
    gate_up: tuple[Packed, ...]  # [2I, K] each
    down: tuple[Packed, ...]  # [K, I] each
    shared: tuple[Packed, Packed] | None  # [2·n·I, K], [K, n·I]


class LatentKind(NamedTuple):
    """What machine code for latent attention is written for."""

    heads: int
    plain: int
    rotary: int
    latent: int
    value: int
    normed: bool
    grouped: bool  # positions


class Kind(NamedTuple):
    """What machine code for a layer is written for."""

    attention: int | LatentKind  # D of grouped-query attention
    routing: Routing | None  # None: a dense feed-forward


class Layer(NamedTuple):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    attention_gain: Tensor  # [K]
    feed_forward_gain: Tensor  # [K]
    eps: float
    attention: GroupedQuery | Latent
    feed_forward: Dense | Experts

    @property
    def kind(self) -> Kind:
        a, routing = self.attention, self.feed_forward.routing if isinstance(self.feed_forward, Experts) else None
        if isinstance(a, GroupedQuery):
            return Kind(a.width, routing)
        sizes = (a.heads, a.plain, a.rotary, a.latent, a.value)
        return Kind(LatentKind(*sizes, a.gain is not None, a.window is not None), routing)

    @property
    def products(self) -> tuple[Product, ...]:
        """Those that may have a bias and an adapter's pair."""
        halves = self.attention, self.feed_forward
        return tuple(part for half in halves for part in half if isinstance(part, Product))

    @property
    def read(self) -> int:
        """Bytes of weights that a row meets, the adapter's left out."""
        weights = [product.weight for product in self.products]
        if isinstance(self.feed_forward, Experts):
            fed, chosen = self.feed_forward, self.feed_forward.routing.chosen
            weights += [*fed.gate_up[:chosen], *fed.down[:chosen], *(fed.shared or ())]
        return sum(rows * columns for rows, columns in (weight.shape for weight in weights))


class Text(NamedTuple):
    """Rows that follow one another, and what the text that they continue keeps in this layer."""

    start: int  # position of the first
    rows: int
    kept: tuple[Tensor, ...]


def kind_problem(kind: Kind) -> str | None:
    """Why no layer of this kind is for one call here, in a few words; None if they are.

    The reference is no reason to leave the ops, unless it is asked for by name.
    """
    if backend.backends(OP, "cpu") == [backend.REFERENCE]:
        return "there is no backend for this processor"
    try:
        found: str | None = backend.implementation(OP, "cpu").kind_problem(kind)
    except backend.BackendError as error:  # one was asked for that other ops have
        return str(error)
    return found


def layer_problem(layer: Layer) -> str | None:
    """The same of a layer with its weights."""
    if layer.attention_gain.device.type != "cpu":
        return "it is not on a processor"
    found = kind_problem(layer.kind)
    if found is None:
        found = backend.implementation(OP, "cpu").problem(layer)
    return found


def prepare_layers(kind: Kind) -> None:
    """Begin to compile what layers of this kind take, beside what goes on here: best while memory is not full."""
    backend.quickest(OP, "cpu").prepare(kind)


def pack_layer(layer: Layer) -> Packed:
    """A layer that `layer_problem` has nothing against, as `layer` takes it. Its tensors must stay where they are."""
    chosen = backend.implementation(OP, "cpu")
    return Packed(chosen, layer.attention.into.weight.shape, chosen.pack(layer))


def layer(
    x: Tensor,
    layers: Sequence[Packed],
    rotation: Sequence[Tensor],
    texts: Sequence[Sequence[Text]],
    adapted: bool,
) -> tuple[Tensor, list[Tensor]]:
    """fp32 [R, K] through one layer after the other -> fp32 [R, K]; new rows are written into what each text keeps.

    layers: of one kind. rotation: cosines and signed sines, fp32 [R, D] each; for grouped positions near ones, those of
    far queries and those of far keys. texts: for each layer, together R rows. adapted: with the pairs. No row's result
    depends on the rows beside it. Beside it, layer by layer, the experts of each row: int64 [R, N], E for none; N is 0
    where there are none.
    """
    expect("x", x, 2, torch.float32)
    for part in rotation:
        expect("rotation", part, 2, torch.float32)
    for packed, own in zip(layers, texts, strict=True):
        expect_shape("x", x, sum(text.rows for text in own), packed.shape[1])
        for text in own:
            for rows in text.kept:
                expect("a cache", rows, 3, torch.bfloat16)
                solid("a cache", rows)
            capacity = text.kept[0].shape[1]
            if text.start < 0 or text.start + text.rows > capacity:
                raise ValueError(f"{text.rows} rows from position {text.start} in a cache of {capacity}")
    chosen = layers[0].implementation
    y: tuple[Tensor, list[Tensor]] = chosen.layer(x, [each.data for each in layers], rotation, texts, adapted)
    return y
