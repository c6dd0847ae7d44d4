"""The ops of a pass, one by one, on activations of nothing in particular: for `assistant.bench.gpu_profile`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from assistant.bench.decode import PROMPT, size

if TYPE_CHECKING:
    from torch import Tensor

    from model.gpu import BlockPass

Call = tuple[Callable[[Any], Any], float]
"""What a half of a layer is given to, and bytes that it reads of weights and cache."""


class Op(NamedTuple):
    """One op, for every layer that has it: what it is called with, one after the other."""

    call: Callable[[Any], Any]
    layers: Sequence[Any]
    megabytes: float


def of_pass(block: BlockPass, rows: int, start: Tensor) -> dict[str, Op]:
    """All ops of a pass of so many rows."""
    import torch

    import kernels
    from model.gpu.block import Joined, Layer
    from model.gpu.halves import Dense, Grouped, Latent, Mixture

    x = torch.randn(rows, block.norm.gain.numel(), device=block.rotation.device)
    scores, streams = block.scores(x), torch.zeros(PROMPT + rows, x.shape[1], device=x.device)
    by_kind: dict[type, Callable[..., dict[str, Call]]] = {
        Grouped: _grouped,
        Latent: _latent,
        Dense: _dense,
        Mixture: _mixture,
    }
    found: dict[str, Op] = {}
    joined = [layer for layer in block.through if isinstance(layer, Joined)]
    if joined:
        calls = _joined(joined[0], x, block.rotation, start)
        found |= {name: Op(call, joined, read / 1e6) for name, (call, read) in calls.items()}
    for place in (0, 1):
        halves = [layer[place] for layer in block.through if isinstance(layer, Layer)]
        for kind in dict.fromkeys(type(half) for half in halves):
            same = [half for half in halves if type(half) is kind]
            calls = by_kind[kind](same[0], x, block.rotation, start)
            found |= {name: Op(call, same, read / 1e6) for name, (call, read) in calls.items()}
    some = block.layers[:3]
    found["head"] = Op(lambda _: block.scores(x), some, size(block.projection.weight) / 1e6)
    found["top"] = Op(lambda _: kernels.rank(scores, 8, x, start, streams), some, 0.0)
    return found


def _joined(layer: Any, x: Tensor, rotation: Tensor, start: Tensor) -> dict[str, Call]:
    import kernels
    from model.gpu.halves import CHUNK

    calls = _grouped(layer.attention, x, rotation, start)
    heads, attend = (calls[name][0] for name in ("heads", "attend"))
    means, sums = attend(layer.attention)
    read = sum(size(part) for part in (layer.rest.out, layer.rest.gate_up, layer.rest.down))
    return {
        "heads": (lambda to: heads(to.attention), calls["heads"][1]),
        "attend": (lambda to: attend(to.attention), calls["attend"][1]),
        "finish": (lambda to: kernels.finish(x, means, sums, start, CHUNK, to.rest), read),
    }


def _grouped(half: Any, x: Tensor, rotation: Tensor, start: Tensor) -> dict[str, Call]:
    import kernels
    from kernels.weights import activations
    from model.gpu.halves import CHUNK

    def heads(to: Any) -> Tensor:
        norm, qkv = to.norm, to.qkv
        return kernels.norm_heads(x, norm.gain, norm.eps, qkv.weight, qkv.bias, rotation, to.keys, to.values, start)

    q = heads(half)
    parts = kernels.attend(q, half.keys, half.values, start, CHUNK)
    dtype = activations(half.out.weight)
    seen = kernels.merge(*parts, start, CHUNK, dtype)
    cache = 2 * PROMPT * half.keys.shape[0] * half.keys.shape[2] * half.keys.element_size()
    return {
        "heads": (heads, size(half.qkv.weight)),
        "attend": (lambda to: kernels.attend(q, to.keys, to.values, start, CHUNK), cache),
        "merge": (lambda to: kernels.merge(*parts, start, CHUNK, dtype), 0.0),
        "out": (lambda to: kernels.linear_add(x, seen, *to.out), size(half.out.weight)),
    }


def _latent(half: Any, x: Tensor, rotation: Tensor, start: Tensor) -> dict[str, Call]:
    import torch

    import kernels
    from kernels.weights import activations

    of, chunk, up = half.heads, half.chunk, half.up
    made = torch.randn(len(x), of.latent + of.rotary, device=x.device)
    queries = torch.randn(len(x), of.heads * (of.plain + of.rotary), device=x.device)
    gain, eps = half.latent_norm or (None, 1.0)
    asked = kernels.absorb(queries, made, gain, eps, up, rotation, half.rows, start, of)
    parts = kernels.attend_latent(asked, half.rows, half.factors, start, of, chunk)
    dtype = activations(half.out.weight)
    seen = kernels.merge_latent(*parts, up, start, of, chunk, dtype)
    keys = size(up) * of.plain / (of.plain + of.value)
    cache = PROMPT * of.row * half.rows.element_size()
    return {
        "latent down": (lambda to: kernels.norm_linear(x, *to.norm, *to.down), size(half.down.weight)),
        "absorb": (lambda to: kernels.absorb(queries, made, gain, eps, to.up, rotation, to.rows, start, of), keys),
        "attend_latent": (lambda to: kernels.attend_latent(asked, to.rows, to.factors, start, of, chunk), cache),
        "merge_latent": (lambda to: kernels.merge_latent(*parts, to.up, start, of, chunk, dtype), size(up) - keys),
        "latent out": (lambda to: kernels.linear_add(x, seen, *to.out), size(half.out.weight)),
    }


def _dense(half: Any, x: Tensor, rotation: Tensor, start: Tensor) -> dict[str, Call]:
    import kernels

    inner = kernels.norm_swiglu(x, *half.norm, *half.gate_up)
    return {
        "gate_up": (lambda to: kernels.norm_swiglu(x, *to.norm, *to.gate_up), size(half.gate_up.weight)),
        "down": (lambda to: kernels.linear_add(x, inner, *to.down), size(half.down.weight)),
    }


def _mixture(half: Any, x: Tensor, rotation: Tensor, start: Tensor) -> dict[str, Call]:
    import kernels

    ids, gates = kernels.route(x, half.norm.gain, half.norm.eps, half.router, half.bias, half.routing)
    first = half.shared[0] if half.shared else None
    inner = kernels.experts_swiglu(x, half.norm.gain, half.norm.eps, ids, half.gate_up, first, half.width)
    # What is read: the matrices of all experts that any row chose, and the shared ones'.
    share = len(set(ids.flatten().tolist()) - {half.routing.experts}) / half.routing.experts
    read = [share * size(each) for each in (half.gate_up, half.down)]
    shared = [size(each) for each in half.shared] if half.shared else [0, 0]

    def gate_up(to: Any) -> Tensor:
        return kernels.experts_swiglu(
            x, to.norm.gain, to.norm.eps, ids, to.gate_up, (to.shared or (None,))[0], to.width
        )

    def down(to: Any) -> Tensor:
        return kernels.experts_add(x, inner, ids, gates, to.down, (to.shared or (None,))[-1])

    return {
        "route": (
            lambda to: kernels.route(x, to.norm.gain, to.norm.eps, to.router, to.bias, to.routing),
            size(half.router),
        ),
        "experts_swiglu": (gate_up, read[0] + shared[0]),
        "experts_add": (down, read[1] + shared[1]),
    }
