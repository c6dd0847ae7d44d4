"""Layers one after the other, each of its ops by its twin."""

from __future__ import annotations

from torch import Tensor

from kernels.attend_reference import attend
from kernels.linear_add_reference import linear_add
from kernels.merge_reference import merge
from kernels.norm_linear_reference import norm_linear
from kernels.norm_swiglu_reference import norm_swiglu
from kernels.stack import CHUNK, LayerWeights, Stack
from kernels.weights import activations


def layers(x: Tensor, stack: Stack, rotation: Tensor, start: Tensor) -> Tensor:
    for layer in stack.layers:
        qkv = norm_linear(x, layer.attention_gain, layer.eps, layer.qkv, layer.bias)
        found = attend(qkv, rotation, layer.keys, layer.values, start, CHUNK)
        seen = merge(*found, start, CHUNK, activations(layer.out))
        x = linear_add(x, seen, layer.out, None)
        inner = norm_swiglu(x, layer.feed_forward_gain, layer.eps, layer.gate_up, None)
        x = linear_add(x, inner, layer.down, None)
    return x


def problem(_: LayerWeights) -> str | None:
    return None
