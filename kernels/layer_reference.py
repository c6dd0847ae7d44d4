"""A layer with eight-bit weights, op by op, in fp32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import int8_linear
from kernels.layer import Layer, Product, Text
from kernels.rms_norm_reference import rms_norm


def problem(_: Layer) -> str | None:
    return None


def prepare(_: int) -> None:
    """Nothing is compiled."""


def pack(layer: Layer) -> Layer:
    return layer


def layer(x: Tensor, data: Layer, rotation: tuple[Tensor, Tensor], texts: Sequence[Text], adapted: bool) -> Tensor:
    qkv = _product(rms_norm(x, data.attention_gain, data.eps), data.qkv, adapted)
    heads = qkv.view(len(x), -1, data.width)
    turned = heads * rotation[0].unsqueeze(1) + heads.roll(data.width // 2, -1) * rotation[1].unsqueeze(1)
    found, first = [], 0
    for text in texts:
        for row in range(first, first + text.rows):
            found.append(_attended(turned[row], heads[row], data, text, text.start + row - first))
        first += text.rows
    x = x + _product(torch.stack(found), data.out, adapted)
    gate, up = _product(rms_norm(x, data.feed_forward_gain, data.eps), data.gate_up, adapted).chunk(2, -1)
    return x + _product(F.silu(gate) * up, data.down, adapted)


def _product(x: Tensor, product: Product, adapted: bool) -> Tensor:
    y = int8_linear(x, product.weight, product.bias)
    if adapted and product.pair is not None:
        down, up = product.pair
        y = y + int8_linear(int8_linear(x, down), up)
    return y


def _attended(turned: Tensor, heads: Tensor, data: Layer, text: Text, position: int) -> Tensor:
    """The heads [H + 2G, D] of one row, turned and not -> [H·D]"""
    count, groups = data.heads, data.groups
    text.keys[:, position] = turned[count : count + groups].to(torch.bfloat16)
    text.values[:, position] = heads[count + groups :].to(torch.bfloat16)
    keys, values = (part[:, : position + 1].float() for part in (text.keys, text.values))
    queries = turned[:count].view(groups, -1, data.width)
    weights = (queries @ keys.transpose(1, 2) * data.width**-0.5).softmax(-1)
    found: Tensor = weights @ values
    return found.flatten()
