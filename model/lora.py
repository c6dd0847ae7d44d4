"""A low-rank adapter beside a decoder's linear layers, that can be switched on and off or merged into them.

y = W x + up(down(x)). Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1; the
usual factor alpha/r is part of `up`. Letters: K features in, N features out, r rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import kernels
from model.config import ModelConfig
from model.decoder import Decoder
from model.errors import BadWeights
from model.layers import linear
from model.quantised import to_int8

TARGETS = ("attention.qkv", "attention.out", "feed_forward.gate_up", "feed_forward.down")
"""The linear layers of a block that get a pair."""


@dataclass(frozen=True)
class Adapter:
    """Pairs of matrices by the path of the layer that they adapt: down [r, K] and up [N, r], fp32."""

    pairs: dict[str, tuple[Tensor, Tensor]]
    about: dict[str, str] = field(default_factory=dict)
    """What it was made for: `base`, the sha256 of the model file; `task`; `seed`, …"""

    @property
    def parameters(self) -> int:
        return sum(down.numel() + up.numel() for down, up in self.pairs.values())


class Switch:
    """On or off, for all layers of a decoder together."""

    adapts = True
    """Is there anything to switch?"""

    def __init__(self) -> None:
        self.on = True

    def beside(self) -> Switch:
        """One like it, for a text that shares the decoder with others."""
        return Switch()

    @contextmanager
    def set(self, on: bool) -> Iterator[None]:
        """On or off inside the block."""
        before, self.on = self.on, on
        try:
            yield
        finally:
            self.on = before


class NoAdapter(Switch):
    """Of a decoder without one."""

    adapts = False

    def beside(self) -> Switch:
        return NoAdapter()


class Adapted(nn.Module):
    """A linear layer, whatever its weights are held in, and its pair."""

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, switch: Switch) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(down, requires_grad=False)
        self.up = nn.Parameter(up, requires_grad=False)
        self.switch = switch

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]"""
        y: Tensor = self.base(x)
        return y + self.correction(x).to(y.dtype) if self.switch.on else y

    def correction(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]"""
        return linear(linear(x.to(self.down.dtype), self.down, None), self.up, None)

    def pair(self) -> tuple[Tensor, Tensor]:
        """down [r, K] and up [N, r], fp32, on the CPU."""
        return self.down.detach().float().cpu(), self.up.detach().float().cpu()


class Adapted8(nn.Module):
    """The same on a CPU, with the pair in eight bits, as its file has it."""

    def __init__(self, base: nn.Module, down: Tensor, up: Tensor, switch: Switch) -> None:
        super().__init__()
        self.base = base
        self.switch = switch
        (inner, a), (outer, b) = to_int8(down), to_int8(up.T)
        # Both factors of a rank go with its row of `down`.
        self.down = kernels.pack_int8(inner, a * b, narrow=True)
        self.up = kernels.pack_int8(outer.T.contiguous(), torch.ones(len(up)), narrow=True)

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> fp32 [..., N]"""
        y: Tensor = self.base(x)
        if not self.switch.on:
            return y
        return y.add_(kernels.int8_linear(kernels.int8_linear(x, self.down), self.up))


def layers(decoder: Decoder) -> dict[str, nn.Module]:
    """The layers that are adapted, by path."""
    paths = (f"blocks.{i}.{target}" for i in range(decoder.config.layers) for target in TARGETS)
    return {path: decoder.get_submodule(path) for path in paths}


def fresh(decoder: Decoder, rank: int, seed: int) -> Adapter:
    """An adapter that changes nothing yet: random `down`, zero `up`."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for path, layer in layers(decoder).items():
        rows, columns = _weight(layer).shape
        down = torch.empty(rank, columns).uniform_(-1, 1, generator=generator) / math.sqrt(columns)
        pairs[path] = (down, torch.zeros(rows, rank))
    return Adapter(pairs)


def attach(decoder: Decoder, adapter: Adapter, dtype: torch.dtype | None = None) -> Switch:
    """Put every pair beside its layer, in the decoder's dtype or in `dtype`; the switch turns them on and off.

    BadWeights if a pair fits no layer. Not twice on one decoder.
    """
    kept = dtype or decoder.dtype

    def beside(base: nn.Module, down: Tensor, up: Tensor, switch: Switch) -> nn.Module:
        down, up = (x.to(device=decoder.device, dtype=kept) for x in (down, up))
        return Adapted(base, down, up, switch)

    return _attach(decoder, adapter, beside)


def attach_eight_bits(decoder: Decoder, adapter: Adapter) -> Switch:
    """The same for serving, on a CPU, beside weights that are in fewer bits themselves. Not to be detached."""
    return _attach(decoder, adapter, Adapted8)


def _attach(
    decoder: Decoder, adapter: Adapter, adapted: Callable[[nn.Module, Tensor, Tensor, Switch], nn.Module]
) -> Switch:
    switch = Switch()
    for path, (down, up) in fitting(decoder, adapter).items():
        owner, _, name = path.rpartition(".")
        parent = decoder.get_submodule(owner)
        setattr(parent, name, adapted(getattr(parent, name), down, up, switch))
    return switch


def detach(decoder: Decoder) -> Adapter:
    """Take the pairs out again."""
    pairs = {}
    for path, layer in layers(decoder).items():
        if isinstance(layer, Adapted):
            pairs[path] = layer.pair()
            owner, _, name = path.rpartition(".")
            setattr(decoder.get_submodule(owner), name, layer.base)
    return Adapter(pairs)


class Merging(Switch):
    """On: the pairs are part of the weights, and cost nothing. Off: the weights are what they were, bit for bit.

    What they were is kept in the host's memory, so that switching copies all of it: about 20 ms for half a billion
    parameters on a GPU.
    """

    def __init__(self, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """pairs: weight [N, K], down [r, K], up [N, r], all on one device."""
        self._pairs = pairs
        self._before = [aside(weight) for weight, _, _ in pairs]
        self._on = False
        self.on = True

    @property
    def on(self) -> bool:
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on == self._on:
            return
        self._on = on
        with torch.no_grad():
            for (weight, down, up), before in zip(self._pairs, self._before, strict=True):
                if on:
                    weight.copy_((weight.float() + up.float() @ down.float()).to(weight.dtype))
                else:
                    weight.copy_(before, non_blocking=True)


def aside(weight: Tensor) -> Tensor:
    """A copy in the host's memory, from where a GPU can read by itself."""
    kept = torch.empty(weight.shape, dtype=weight.dtype, pin_memory=weight.device.type == "cuda")
    return kept.copy_(weight)


def attach_merged(decoder: Decoder, adapter: Adapter) -> Switch:
    """Every pair within the weights of its layer, which are floating point, and taken out again by the switch."""
    pairs = []
    for path, (down, up) in fitting(decoder, adapter).items():
        weight = _weight(decoder.get_submodule(path))
        pairs.append((weight, down.to(weight.device, weight.dtype), up.to(weight.device, weight.dtype)))
    return Merging(pairs)


def merge(decoder: Decoder, adapter: Adapter) -> None:
    """Add every pair to the weights of its layer, which are floating point: one product less, no way back."""
    for path, (down, up) in fitting(decoder, adapter).items():
        weight = _weight(decoder.get_submodule(path))
        product = up.to(weight.device) @ down.to(weight.device)
        weight.copy_((weight.float() + product).to(weight.dtype))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise BadWeights(f"a {type(layer).__name__} has no floating-point weight to adapt")
    return weight.detach()


def fitting(decoder: Decoder, adapter: Adapter) -> Mapping[str, tuple[Tensor, Tensor]]:
    """The pairs by path; BadWeights if one fits no layer."""
    known = layers(decoder)
    for path, (down, up) in adapter.pairs.items():
        if path not in known:
            raise BadWeights(f"the adapter has a pair for {path}, which this model does not have")
        outputs, inputs = _shape(decoder.config, path)
        if up.shape != (outputs, down.shape[0]) or down.shape[1] != inputs:
            raise BadWeights(f"the adapter's pair for {path} is {list(down.shape)} and {list(up.shape)}")
    return adapter.pairs


def _shape(config: ModelConfig, path: str) -> tuple[int, int]:
    """Features out and in of a layer, whatever its weights are held in."""
    heads = config.heads * config.head_width
    shapes = {
        "attention.qkv": (heads + 2 * config.groups * config.head_width, config.width),
        "attention.out": (config.width, heads),
        "feed_forward.gate_up": (2 * config.feed_forward_width, config.width),
        "feed_forward.down": (config.width, config.feed_forward_width),
    }
    return next(shape for target, shape in shapes.items() if path.endswith(target))


def save(adapter: Adapter, path: Path) -> None:
    """int8, one fp32 scale for each of the r rows of `down` and columns of `up`."""
    tensors = {}
    for name, (down, up) in adapter.pairs.items():
        for key, rows in (("down", down), ("up", up.T)):
            codes, scales = _quantise(rows)
            tensors[f"{name}.{key}"], tensors[f"{name}.{key}.scale"] = codes, scales
    save_file(tensors, path, {"about": json.dumps(adapter.about)})


def load(path: Path) -> Adapter:
    """What `save` wrote."""
    pairs = {}
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
        names = sorted({key.rsplit(".down", 1)[0] for key in file.keys() if key.endswith(".down")})  # noqa: SIM118
        for name in names:
            down, up = (
                file.get_tensor(f"{name}.{key}").float() * file.get_tensor(f"{name}.{key}.scale").unsqueeze(-1)
                for key in ("down", "up")
            )
            pairs[name] = (down, up.T.contiguous())
    return Adapter(pairs, about)


def rounded(adapter: Adapter) -> Adapter:
    """The adapter as it comes back from its file."""
    pairs = {}
    for name, (down, up) in adapter.pairs.items():
        (a, s), (b, t) = _quantise(down), _quantise(up.T)
        pairs[name] = (a.float() * s.unsqueeze(-1), (b.float() * t.unsqueeze(-1)).T.contiguous())
    return Adapter(pairs, adapter.about)


def _quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[r, n] -> codes int8 [r, n] and scales fp32 [r]."""
    scales = rows.abs().amax(-1).clamp_min(1e-12) / 127
    return (rows / scales.unsqueeze(-1)).round().to(torch.int8).contiguous(), scales.float().contiguous()
