"""Grouped-query attention re-expressed as latent attention, without loss: one decode kernel then serves both.

G groups of keys and values become one "rotary key" of R = G·D features, which carries the keys of all groups, and one
latent of C = G·D features, which carries their values. A query of group g is zero but for the D features of its group,
so that its product with the long key is the product with its own group's. Nothing is left to have no position (P = 0);
what makes values of the latent picks a group's part. Scores keep their scale D^-½ by a gain of sqrt(G).

A rotary pair lies one half of R apart, where it lay one half of D apart: feature i of group g goes to g·D/2 + i of the
first half or of the second. The frequencies are those of D, G times over.
Letters: H heads, G groups, D head width, K width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from model.config import Latent, ModelConfig
from model.config.own import FAMILY
from model.decoder import Decoder
from model.errors import UnsupportedModel
from model.loaders import match
from model.loaders.sources import SafetensorsSource
from model.saving import save

# What a checkpoint's numbers are kept in -> what the new one's are: never fewer bits.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "quantised": torch.float32}


def as_latent(config: ModelConfig) -> ModelConfig:
    """The configuration of the same model with latent attention. UnsupportedModel says what cannot be expressed."""
    kinds = {"gqa": "mla", "gqa-grouped": "mla-grouped"}
    if config.attention not in kinds:
        raise UnsupportedModel(f"attention '{config.attention}' cannot be expressed as latent attention (known: gqa)")
    if config.rope.width != config.head_width or config.rope.repeats != 1:
        raise UnsupportedModel(
            f"heads of width {config.head_width}, {config.rope.width} of it rotary, cannot be expressed as a latent"
        )
    joined = config.groups * config.head_width
    return replace(
        config,
        family=FAMILY,
        attention=kinds[config.attention],
        latent=Latent(joined, 0, config.head_width, normed=False, gain=config.groups**0.5),
        rope=replace(config.rope, width=joined, repeats=config.groups),
    )


def convert(source: Path, target: Path) -> ModelConfig:
    """Write the checkpoint in folder `source` into folder `target`, with latent attention; returns its configuration.

    In float32 where that is what `source` is in, else in bfloat16; only zeros and ones are added.
    """
    opened = SafetensorsSource(source)
    config = as_latent(opened.config)
    with torch.device("meta"):
        before = Decoder(opened.config)
    dtype = DTYPES[opened.precision]
    tensors: dict[str, Tensor] = {}
    for key, matrix in match(opened, before).items():
        if key == "projection.weight" and config.tied_head:
            continue
        layer, _, inner = key.rpartition("attention.qkv.")
        value = matrix.read(dtype, torch.device("cpu"))
        if layer:
            tensors[f"{layer}attention.down.{inner}"] = down(value, opened.config)
        else:
            tensors[key] = value
    for layer_number in range(config.layers):
        tensors[f"blocks.{layer_number}.attention.up.weight"] = up(opened.config).to(dtype)
    save(config, tensors, target, like=source)
    return config


def down(qkv: Tensor, config: ModelConfig) -> Tensor:
    """Rows [(H + 2G)·D, …] of a weight or a bias -> queries [H·R, …], latent [C, …] and rotary key [R, …], stacked."""
    width, groups, heads = config.head_width, config.groups, config.heads
    q, k, v = qkv.split([heads * width, groups * width, groups * width])
    places = _places(config)  # [G, D]
    queries = qkv.new_zeros(heads, groups * width, *qkv.shape[1:])
    for head, rows in enumerate(q.unflatten(0, (heads, width))):
        queries[head, places[head * groups // heads]] = rows
    keys = torch.empty_like(k)
    keys[places.flatten()] = k
    return torch.cat([queries.flatten(0, 1), v, keys])


def up(config: ModelConfig) -> Tensor:
    """[H·D, G·D]: each head's values are its group's part of the latent."""
    part = torch.arange(config.groups).repeat_interleave(config.heads // config.groups)  # [H]
    picked = torch.eye(config.groups)[part]  # [H, G]
    return torch.kron(picked, torch.eye(config.head_width))


def _places(config: ModelConfig) -> Tensor:
    """[G, D]: where feature i of group g is in the joined key."""
    half = config.head_width // 2
    i = torch.arange(config.head_width)
    group = torch.arange(config.groups).unsqueeze(-1)
    return (i // half) * (config.groups * half) + group * half + i % half
