"""Layers with eight-bit weights, op by op, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import int8_linear
from kernels.backend import Packed
from kernels.layer import Dense, GroupedQuery, Kind, Latent, Layer, Product, Text
from kernels.rms_norm_reference import rms_norm
from kernels.route_reference import route


def kind_problem(_: Kind) -> str | None:
    return None


def problem(_: Layer) -> str | None:
    return None


def prepare(_: Kind) -> None:
    """Nothing is compiled."""


def pack(layer: Layer) -> Layer:
    return layer


def layer(
    x: Tensor,
    layers: Sequence[Layer],
    rotation: Sequence[Tensor],
    texts: Sequence[Sequence[Text]],
    adapted: bool,
) -> tuple[Tensor, list[Tensor]]:
    chosen = []
    for each, own in zip(layers, texts, strict=True):
        half, normed = each.attention, rms_norm(x, each.attention_gain, each.eps)
        first = _product(normed, half.into, adapted)
        if isinstance(half, GroupedQuery):
            seen = _grouped_query(first, half, rotation, own)
        else:
            seen = _latent(first, half, rotation, own)
        x = x + _product(seen, half.out, adapted)
        y, ids = _fed_forward(x, each, adapted)
        x = x + y
        chosen.append(ids)
    return x, chosen


def _product(x: Tensor, product: Product, adapted: bool) -> Tensor:
    y = int8_linear(x, product.weight, product.bias)
    if adapted and product.pair is not None:
        down, up = product.pair
        y = y + int8_linear(int8_linear(x, down), up)
    return y


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[R, heads, width], with the rows' cosines and signed sines [R, width]"""
    return x * cos.unsqueeze(1) + x.roll(x.shape[-1] // 2, -1) * sin.unsqueeze(1)


def _placed(texts: Sequence[Text]) -> Iterator[tuple[int, Text]]:
    """Position and text of every row."""
    return ((text.start + i, text) for text in texts for i in range(text.rows))


def _grouped_query(first: Tensor, half: GroupedQuery, rotation: Sequence[Tensor], texts: Sequence[Text]) -> Tensor:
    """[R, (H + 2G)·D] -> [R, H·D]"""
    heads = first.unflatten(-1, (-1, half.width))
    turned = _turned(heads, *rotation)
    found = []
    for row, (position, text) in enumerate(_placed(texts)):
        keys, values = text.kept
        keys[:, position] = turned[row, half.heads : half.heads + half.groups].to(keys.dtype)
        values[:, position] = heads[row, half.heads + half.groups :].to(keys.dtype)
        queries = turned[row, : half.heads].view(half.groups, -1, half.width)
        scores = queries @ keys[:, : position + 1].float().transpose(1, 2) * half.width**-0.5
        found.append((scores.softmax(-1) @ values[:, : position + 1].float()).flatten())
    return torch.stack(found)


def _latent(first: Tensor, half: Latent, rotation: Sequence[Tensor], texts: Sequence[Text]) -> Tensor:
    """[R, H·(P + T) + C + T] -> [R, H·V]"""
    width = half.plain + half.rotary
    queries, latent, key = first.split([half.heads * width, half.latent, half.rotary], -1)
    plain, turning = queries.unflatten(-1, (half.heads, width)).split([half.plain, half.rotary], -1)
    near_turn, query_turn, key_turn = (rotation[i : i + 2] or rotation[:2] for i in (0, 2, 4))
    near_queries, far_queries = _turned(turning, *near_turn), _turned(turning, *query_turn)
    near_key, far_key = (_turned(key.unsqueeze(1), *turn)[:, 0] for turn in (near_turn, key_turn))
    latent = latent if half.gain is None else rms_norm(latent, half.gain, half.eps)
    rows = torch.cat([near_key, latent] + [far_key] * (half.window is not None), -1)
    key_up, value_up = half.up.float().unflatten(0, (half.heads, -1)).split([half.plain, half.value], 1)
    absorbed = torch.einsum("rhp,hpc->rhc", plain, key_up)
    near_temper, far_temper = torch.ones(2, half.heads) if half.tempers is None else half.tempers.float()
    found = []
    for row, (position, text) in enumerate(_placed(texts)):
        (kept,) = text.kept
        kept[0, position] = rows[row].to(kept.dtype)
        seen = kept[0, : position + 1].float()
        latents = seen[:, half.rotary : half.rotary + half.latent]
        by_latent = absorbed[row] @ latents.T
        near = (near_queries[row] @ seen[:, : half.rotary].T + by_latent) * near_temper.unsqueeze(-1)
        far = (far_queries[row] @ seen[:, -half.rotary :].T + by_latent) * far_temper.unsqueeze(-1)
        back = position - torch.arange(position + 1)
        scores = near if half.window is None else torch.where(back < half.window, near, far)
        weights = (scores * half.scale).softmax(-1)
        found.append(torch.einsum("hc,hvc->hv", weights @ latents, value_up).flatten())
    return torch.stack(found)


def _fed_forward(x: Tensor, layer: Layer, adapted: bool) -> tuple[Tensor, Tensor]:
    """[R, K] -> what is added to it [R, K], and the experts of each row [R, N]."""
    normed, half = rms_norm(x, layer.feed_forward_gain, layer.eps), layer.feed_forward
    if isinstance(half, Dense):
        y = _swiglu(normed, lambda x: _product(x, half.gate_up, adapted), lambda x: _product(x, half.down, adapted))
        return y, torch.zeros(len(x), 0, dtype=torch.int64)
    ids, gates = route(x, layer.feed_forward_gain, layer.eps, half.router, half.bias, half.routing)
    rows = []
    for row, own, weights in zip(normed.split(1), ids.tolist(), gates, strict=True):
        found = [
            weight * _expert(row, half.gate_up[expert], half.down[expert])
            for expert, weight in zip(own, weights, strict=True)
            if expert < half.routing.experts
        ]
        rows.append(torch.stack(found).sum(0) + (0 if half.shared is None else _expert(row, *half.shared)))
    return torch.cat(rows), ids.long()


def _expert(x: Tensor, gate_up: Packed, down: Packed) -> Tensor:
    return _swiglu(x, lambda x: int8_linear(x, gate_up), lambda x: int8_linear(x, down))


def _swiglu(x: Tensor, gate_up: Callable[[Tensor], Tensor], down: Callable[[Tensor], Tensor]) -> Tensor:
    gate, up = gate_up(x).chunk(2, -1)
    return down(F.silu(gate) * up)
