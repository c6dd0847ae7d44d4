"""A decoder layer with eight-bit weights over few rows, in one call: what a processor needs beside its products.

Between two products lie a norm, a rotation, a softmax: microseconds of work, and as operators of PyTorch tens of
microseconds of calls each. Letters: R rows, K width, F width of the feed-forward, H heads, G groups, D head width,
S capacity of a cache, r rank of an adapter's pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import backend
from kernels.backend import Packed
from kernels.checks import expect, expect_shape, solid

OP = "layer"


class Product(NamedTuple):
    """x Wᵀ + b, and where the layer is adapted + x downᵀ upᵀ."""

    weight: Packed  # of `int8_linear`: [N, K]
    bias: Tensor | None  # fp32 [N]
    pair: tuple[Packed, Packed] | None  # of `int8_linear`: down [r, K], up [N, r]


class Layer(NamedTuple):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): rotary GQA, and SwiGLU with its gate before its up."""

    attention_gain: Tensor  # [K]
    feed_forward_gain: Tensor  # [K]
    eps: float
    qkv: Product  # [(H + 2G)·D, K]
    out: Product  # [K, H·D]
    gate_up: Product  # [2F, K]
    down: Product  # [K, F]
    groups: int
    width: int  # D

    @property
    def products(self) -> tuple[Product, ...]:
        return self.qkv, self.out, self.gate_up, self.down

    @property
    def heads(self) -> int:
        return self.qkv.weight.shape[0] // self.width - 2 * self.groups


class Text(NamedTuple):
    """Rows that follow one another, and the cache of the text that they continue."""

    start: int  # position of the first
    rows: int
    keys: Tensor  # bfloat16 [G, S, D]
    values: Tensor  # bfloat16 [G, S, D]


def layer_problem(layer: Layer) -> str | None:
    """Why this layer is not for one call here, in a few words; None if it is.

    The reference is no reason to leave the ops, unless it is asked for by name.
    """
    if layer.attention_gain.device.type != "cpu":
        return "it is not on a processor"
    if backend.backends(OP, "cpu") == [backend.REFERENCE]:
        return "there is no backend for this processor"
    try:
        found: str | None = backend.implementation(OP, "cpu").problem(layer)
    except backend.BackendError as error:  # one was asked for that other ops have
        return str(error)
    return found


def prepare_layers(width: int) -> None:
    """Begin to compile what layers with heads of D take, beside what goes on here: best while memory is not full."""
    backend.quickest(OP, "cpu").prepare(width)


def pack_layer(layer: Layer) -> Packed:
    """A layer that `layer_problem` has nothing against, as `layer` takes it. Its tensors must stay where they are."""
    chosen = backend.implementation(OP, "cpu")
    return Packed(chosen, layer.gate_up.weight.shape, chosen.pack(layer))


def layer(x: Tensor, packed: Packed, rotation: tuple[Tensor, Tensor], texts: Sequence[Text], adapted: bool) -> Tensor:
    """fp32 [R, K] -> fp32 [R, K]; each text's new keys and values are written into its cache.

    rotation: cosines and signed sines, fp32 [R, D] each. texts: together R rows. adapted: with the pairs. No row's
    result depends on the rows beside it.
    """
    expect("x", x, 2, torch.float32)
    expect_shape("x", x, sum(text.rows for text in texts), packed.shape[1])
    for part in rotation:
        expect("rotation", part, 2, torch.float32)
    for text in texts:
        for rows in (text.keys, text.values):
            expect("a cache", rows, 3, torch.bfloat16)
            solid("a cache", rows)
        if text.start < 0 or text.start + text.rows > text.keys.shape[1]:
            raise ValueError(f"{text.rows} rows from position {text.start} in a cache of {text.keys.shape[1]}")
    y: Tensor = packed.implementation.layer(x, packed.data, rotation, texts, adapted)
    return y
