"""A small model as a checkpoint folder in its family's own layout, in four bits or in bf16, and back.

The names and the order of rows are those of DeepSeek-V3's (or Llama's) checkpoints, so that whatever reads those reads
this. In four bits a matrix `NAME` is two tensors: `NAME.codes` uint8 [N, K/2], low half first, and `NAME.scales` fp16
[N, K/32]; a number is (code - 8)·scale (`model.mtp.quantise`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.errors import BadModelFile, BadWeights
from model.loaders.files import ordinary, read_json
from model.mtp import GROUP, dequantise, quantise
from model.small.network import Network
from model.small.shape import Shape

WEIGHTS = "model.safetensors"
LARGEST = 1 << 24
"""No number of a shape is as large."""


class Place(NamedTuple):
    """Where a tensor of the checkpoint is in the network: parameter, expert, rows, and rotary rows to interleave."""

    name: str
    ours: str
    expert: int | None = None
    rows: tuple[int, int] | None = None
    turned: tuple[int, int, int] | None = None
    """(heads, features before the turned ones in a head, turned features)"""

    def of(self, parameter: Tensor) -> Tensor:
        """The part of the parameter that is meant, a view."""
        part = parameter if self.expert is None else parameter[self.expert]
        return part if self.rows is None else part[self.rows[0] : self.rows[1]]

    def outward(self, part: Tensor) -> Tensor:
        """Our rows -> theirs: the two halves of a turned head alternate."""
        return self._swapped(part, lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2))

    def inward(self, part: Tensor) -> Tensor:
        """Their rows -> ours."""
        return self._swapped(part, lambda x: x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2))

    def _swapped(self, part: Tensor, swap: Any) -> Tensor:
        if self.turned is None:
            return part
        heads, before, width = self.turned
        rows = part.unflatten(0, (heads, -1))
        kept, turned = rows.split([before, width], 1)
        return torch.cat([kept, swap(turned)], 1).flatten(0, 1)


def places(shape: Shape) -> Iterator[Place]:
    """Every tensor of the checkpoint."""
    yield Place("model.embed_tokens.weight", "embedding")
    yield Place("model.norm.weight", "norm.weight")
    for i in range(shape.layers):
        yield from _block(shape, f"model.layers.{i}", f"blocks.{i}")
    for d in range(shape.depth):
        theirs, ours = f"model.layers.{shape.layers + d}", f"modules_behind.{d}"
        yield from _block(shape, theirs, f"{ours}.block")
        yield Place(f"{theirs}.hnorm.weight", f"{ours}.state_norm.weight")
        yield Place(f"{theirs}.enorm.weight", f"{ours}.embedding_norm.weight")
        yield Place(f"{theirs}.eh_proj.weight", f"{ours}.projection.weight")
        yield Place(f"{theirs}.shared_head.norm.weight", f"{ours}.norm.weight")


def _block(shape: Shape, theirs: str, ours: str) -> Iterator[Place]:
    yield Place(f"{theirs}.input_layernorm.weight", f"{ours}.attention_norm.weight")
    yield Place(f"{theirs}.post_attention_layernorm.weight", f"{ours}.feed_forward_norm.weight")
    attention, inside = f"{theirs}.self_attn", f"{ours}.attention"
    if shape.attention == "mla":
        turned = (shape.heads, shape.nope, shape.rope)
        yield Place(f"{attention}.q_proj.weight", f"{inside}.query.weight", turned=turned)
        once = (1, shape.latent, shape.rope)
        yield Place(f"{attention}.kv_a_proj_with_mqa.weight", f"{inside}.down.weight", turned=once)
        yield Place(f"{attention}.kv_a_layernorm.weight", f"{inside}.latent_norm.weight")
        yield Place(f"{attention}.kv_b_proj.weight", f"{inside}.up.weight")
    else:
        begin = 0
        for name, heads in (("q", shape.heads), ("k", shape.groups), ("v", shape.groups)):
            end = begin + heads * shape.key
            yield Place(f"{attention}.{name}_proj.weight", f"{inside}.qkv.weight", rows=(begin, end))
            begin = end
    yield Place(f"{attention}.o_proj.weight", f"{inside}.out.weight")
    if shape.feed_forward == "dense":
        yield from _swiglu(f"{theirs}.mlp", f"{ours}.feed_forward", shape.dense_width)
        return
    yield Place(f"{theirs}.mlp.gate.weight", f"{ours}.feed_forward.router")
    yield Place(f"{theirs}.mlp.gate.e_score_correction_bias", f"{ours}.feed_forward.bias")
    yield from _swiglu(f"{theirs}.mlp.shared_experts", f"{ours}.feed_forward.shared", shape.shared * shape.expert_width)
    inner = shape.expert_width
    for e in range(shape.experts):
        expert, inside = f"{theirs}.mlp.experts.{e}", f"{ours}.feed_forward"
        yield Place(f"{expert}.gate_proj.weight", f"{inside}.gate_up", e, (0, inner))
        yield Place(f"{expert}.up_proj.weight", f"{inside}.gate_up", e, (inner, 2 * inner))
        yield Place(f"{expert}.down_proj.weight", f"{inside}.down", e)


def _swiglu(theirs: str, ours: str, inner: int) -> Iterator[Place]:
    yield Place(f"{theirs}.gate_proj.weight", f"{ours}.gate_up.weight", rows=(0, inner))
    yield Place(f"{theirs}.up_proj.weight", f"{ours}.gate_up.weight", rows=(inner, 2 * inner))
    yield Place(f"{theirs}.down_proj.weight", f"{ours}.down.weight")


def in_four_bits(name: str, dimensions: int) -> bool:
    """Is this parameter of the network a matrix that is kept in four bits? Routers are small and decide much."""
    return dimensions > 1 and not name.endswith("router")


@torch.no_grad()
def save(network: Network, folder: Path, about: dict[str, str], four_bits: bool = True) -> None:
    """Write `config.json` and the weights into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(network.named_parameters())
    tensors: dict[str, Tensor] = {}
    for place in places(network.shape):
        whole = parameters[place.ours]
        value = place.outward(place.of(whole.detach())).cpu().contiguous()
        if not in_four_bits(place.ours, whole.dim()):
            tensors[place.name] = value.clone() if value.dim() < 2 else value.bfloat16()
        elif not four_bits:
            tensors[place.name] = value.bfloat16()
        else:
            codes, scales = quantise(value)
            tensors[f"{place.name}.codes"] = (codes[:, 0::2] | (codes[:, 1::2] << 4)).contiguous()
            tensors[f"{place.name}.scales"] = scales.contiguous()
    config = network.shape.config_json() | {"about": about}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


@torch.no_grad()
def load(folder: Path) -> Network:
    """The network that `save` wrote, to be trained on.

    BadModelFile says what cannot be read or described, BadWeights what is missing, mis-shaped, no number or too much.
    """
    shape = _shape(read_json(folder / "config.json"), folder)
    try:
        with safe_open(ordinary(folder / WEIGHTS), framework="pt") as file:
            return _network(shape, file)
    except (SafetensorError, OSError) as error:
        raise BadModelFile(f"{WEIGHTS}: {error}") from None


def _shape(config: dict[str, Any], folder: Path) -> Shape:
    """What the config says of the network; what it does not say is as it was when nobody said it."""
    values = config.get("small")
    if not isinstance(values, dict):
        raise BadModelFile(f"{folder.name} is no model that was trained here")
    said = {field.name: values[field.name] for field in fields(Shape) if field.name in values}
    for name, value in said.items():
        kind = type(getattr(Shape, name))
        right = isinstance(value, int | float) if kind is float else type(value) is kind
        if not right or (kind in (int, float) and not isinstance(value, bool) and not 0 <= value < LARGEST):
            raise BadModelFile(f"config.json: small.{name} is {value!r}")
    try:
        return Shape(**said)
    except ZeroDivisionError:
        raise BadModelFile("config.json: of something that experts have there is none") from None


def _network(shape: Shape, file: Any) -> Network:
    left = set(file.keys())
    # What the file cannot hold is seen before it is made.
    if max(shape.layers + shape.depth, shape.experts * (shape.feed_forward == "moe")) > len(left):
        raise BadWeights(f"{len(left)} tensors for {shape.layers} layers and {shape.experts} experts")
    try:
        with torch.device("meta"):
            parts = dict(Network(shape).named_parameters())
        for place in places(shape):
            _check(file, place, list(place.of(parts[place.ours]).shape), left)
    except (RuntimeError, ArithmeticError, IndexError) as error:
        raise BadModelFile(f"config.json describes no network: {str(error).splitlines()[0]}") from None
    network = Network(shape)
    parameters = dict(network.named_parameters())
    for place in places(shape):
        value = _read(file, place.name, left)
        if not bool(torch.isfinite(value).all()):
            raise BadWeights(f"{place.name} holds NaN or infinity")
        place.of(parameters[place.ours]).copy_(place.inward(value))
    if left:
        raise BadWeights(f"unknown tensors: {', '.join(sorted(left)[:3])}")
    return network


def _names(name: str, left: set[str]) -> list[str]:
    """Of the tensors that hold a parameter."""
    needed = [name] if name in left else [f"{name}.codes", f"{name}.scales"]
    if not left.issuperset(needed):
        raise BadWeights(f"no tensor {name}")
    return needed


def _check(file: Any, place: Place, shape: list[int], left: set[str]) -> None:
    """Have the tensors of a parameter the shapes that they must have?"""
    names = _names(place.name, left)
    expected = [shape] if len(names) == 1 else [[*shape[:-1], shape[-1] // 2], [*shape[:-1], shape[-1] // GROUP]]
    for name, wanted in zip(names, expected, strict=True):
        found = file.get_slice(name)
        if found.get_shape() != wanted:
            raise BadWeights(f"{name} is {found.get_shape()}, not {wanted}")
        if (found.get_dtype() == "U8") != name.endswith(".codes"):
            raise BadWeights(f"{name} holds {found.get_dtype()}")


def _read(file: Any, name: str, left: set[str]) -> Tensor:
    needed = _names(name, left)
    left.difference_update(needed)
    values: list[Tensor] = [file.get_tensor(one) for one in needed]
    if len(values) == 1:
        return values[0].float()
    codes = torch.stack([values[0] & 15, values[0] >> 4], -1).flatten(-2)
    return dequantise(codes, values[1])
