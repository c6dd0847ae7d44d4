"""Which tensors of a checkpoint make up which of ours: one table per file format and family.

A key of ours is a path in the decoder, with `{i}` for the layer; its value lists the checkpoint's tensors whose rows
are stacked, in order. A new family is a new table, and a row in `model.config.FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from model.config import FAMILIES, ModelConfig
from model.config.own import FAMILY


class Pairs(NamedTuple):
    """Rows that alternate between two halves: the last `width` of every `period`."""

    period: int
    width: int


class Part(NamedTuple):
    """One tensor of the checkpoint: its rows go into ours as they are, or with their pairs taken apart."""

    name: str
    pairs: Pairs | None = None


Table = Mapping[str, tuple[str, ...]]

HUB: Table = {
    "embedding.weight": ("model.embed_tokens.weight",),
    "blocks.{i}.attention_norm.weight": ("model.layers.{i}.input_layernorm.weight",),
    "blocks.{i}.attention.qkv.weight": tuple(f"model.layers.{{i}}.self_attn.{x}_proj.weight" for x in "qkv"),
    "blocks.{i}.attention.qkv.bias": tuple(f"model.layers.{{i}}.self_attn.{x}_proj.bias" for x in "qkv"),
    "blocks.{i}.attention.out.weight": ("model.layers.{i}.self_attn.o_proj.weight",),
    "blocks.{i}.attention.out.bias": ("model.layers.{i}.self_attn.o_proj.bias",),
    "blocks.{i}.feed_forward_norm.weight": ("model.layers.{i}.post_attention_layernorm.weight",),
    "blocks.{i}.feed_forward.gate_up.weight": (
        "model.layers.{i}.mlp.gate_proj.weight",
        "model.layers.{i}.mlp.up_proj.weight",
    ),
    "blocks.{i}.feed_forward.gate_up.bias": (
        "model.layers.{i}.mlp.gate_proj.bias",
        "model.layers.{i}.mlp.up_proj.bias",
    ),
    "blocks.{i}.feed_forward.down.weight": ("model.layers.{i}.mlp.down_proj.weight",),
    "blocks.{i}.feed_forward.down.bias": ("model.layers.{i}.mlp.down_proj.bias",),
    "blocks.{i}.attention.temperatures.weight": ("model.layers.{i}.self_attn.temperatures.weight",),
    "norm.weight": ("model.norm.weight",),
    "projection.weight": ("lm_head.weight",),
}

_ATTENTION = "model.layers.{i}.self_attn"
_EXPERT = "model.layers.{i}.mlp.experts.{e}"
_SHARED = "model.layers.{i}.mlp.shared_experts"

# DeepSeek-V2's and V3's, whose queries may come from a latent of their own.
DEEPSEEK: Table = {key: value for key, value in HUB.items() if "qkv" not in key} | {
    "blocks.{i}.attention.down.weight": (f"{_ATTENTION}.q_proj.weight", f"{_ATTENTION}.kv_a_proj_with_mqa.weight"),
    "blocks.{i}.attention.latent_norm.weight": (f"{_ATTENTION}.kv_a_layernorm.weight",),
    "blocks.{i}.attention.up.weight": (f"{_ATTENTION}.kv_b_proj.weight",),
    "blocks.{i}.feed_forward.router.weight": ("model.layers.{i}.mlp.gate.weight",),
    "blocks.{i}.feed_forward.router.bias": ("model.layers.{i}.mlp.gate.e_score_correction_bias",),
    "blocks.{i}.feed_forward.expert_gate_up.weight": (f"{_EXPERT}.gate_proj.weight", f"{_EXPERT}.up_proj.weight"),
    "blocks.{i}.feed_forward.expert_down.weight": (f"{_EXPERT}.down_proj.weight",),
    "blocks.{i}.feed_forward.shared.gate_up.weight": (f"{_SHARED}.gate_proj.weight", f"{_SHARED}.up_proj.weight"),
    "blocks.{i}.feed_forward.shared.down.weight": (f"{_SHARED}.down_proj.weight",),
}
DEEPSEEK_LOW_RANK: Table = {
    **DEEPSEEK,
    **{
        f"blocks.{{i}}.attention.down.{kind}": (
            f"{_ATTENTION}.q_a_proj.{kind}",
            f"{_ATTENTION}.kv_a_proj_with_mqa.{kind}",
        )
        for kind in ("weight", "bias")
    },
    "blocks.{i}.attention.query.norm.weight": (f"{_ATTENTION}.q_a_layernorm.weight",),
    "blocks.{i}.attention.query.up.weight": (f"{_ATTENTION}.q_b_proj.weight",),
}


class _Same(dict[str, tuple[str, ...]]):
    def __missing__(self, key: str) -> tuple[str, ...]:
        return (key,)


# This project's own: every tensor has the key that it has here.
OWN: Table = _Same()


def hub(config: ModelConfig) -> Table:
    """The table of a safetensors checkpoint."""
    tables = {"qwen2": HUB, "llama": HUB, "viable": OWN}
    if config.family in tables:
        return tables[config.family]
    return DEEPSEEK_LOW_RANK if config.latent and config.latent.query_width else DEEPSEEK


GGUF: Table = {
    "embedding.weight": ("token_embd.weight",),
    "blocks.{i}.attention_norm.weight": ("blk.{i}.attn_norm.weight",),
    "blocks.{i}.attention.qkv.weight": tuple(f"blk.{{i}}.attn_{x}.weight" for x in "qkv"),
    "blocks.{i}.attention.qkv.bias": tuple(f"blk.{{i}}.attn_{x}.bias" for x in "qkv"),
    "blocks.{i}.attention.out.weight": ("blk.{i}.attn_output.weight",),
    "blocks.{i}.attention.out.bias": ("blk.{i}.attn_output.bias",),
    "blocks.{i}.feed_forward_norm.weight": ("blk.{i}.ffn_norm.weight",),
    "blocks.{i}.feed_forward.gate_up.weight": ("blk.{i}.ffn_gate.weight", "blk.{i}.ffn_up.weight"),
    "blocks.{i}.feed_forward.gate_up.bias": ("blk.{i}.ffn_gate.bias", "blk.{i}.ffn_up.bias"),
    "blocks.{i}.feed_forward.down.weight": ("blk.{i}.ffn_down.weight",),
    "blocks.{i}.feed_forward.down.bias": ("blk.{i}.ffn_down.bias",),
    "norm.weight": ("output_norm.weight",),
    "projection.weight": ("output.weight",),
}

# Tensors that say nothing which the configuration does not: never read, never missed.
IGNORED = re.compile(r".*\.rotary_emb\.inv_freq|rope_freqs\.weight")

# In GGUF, the query and key rows of families with Family.gguf_rotary_interleaved alternate between the two halves.
_GGUF_ROTARY = re.compile(r"blk\.\d+\.attn_[qk]\.(weight|bias)")
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def gguf_pairs(config: ModelConfig, name: str) -> Pairs | None:
    """The pairs that tensor `name` of a GGUF file has."""
    interleaved = FAMILIES[config.family].gguf_rotary_interleaved and _GGUF_ROTARY.fullmatch(name)
    return Pairs(config.head_width, config.head_width) if interleaved else None


def hub_pairs(config: ModelConfig, name: str) -> Pairs | None:
    """The pairs that tensor `name` of a safetensors checkpoint has: DeepSeek's turned features are neighbours."""
    latent = config.latent
    if latent is None or config.family == FAMILY or not config.rope.interleaved:
        return None
    for end, plain in (("q_proj", latent.plain_width), ("q_b_proj", latent.plain_width), ("with_mqa", latent.width)):
        if name.removesuffix(".weight").removesuffix(".bias").endswith(end):
            return Pairs(plain + config.rope.width, config.rope.width)
    return None


def parts(table: Table, key: str, config: ModelConfig, pairs: Callable[[str], Pairs | None]) -> tuple[Part, ...]:
    """The checkpoint's tensors for `key` of ours; `pairs` says what is to be taken apart. KeyError: no such key."""
    layer = _LAYER.search(key)
    number = layer[0] if layer else ""
    patterns = table[_LAYER.sub("{i}", key, count=1)]
    every = range(config.experts.count if config.experts and any("{e}" in name for name in patterns) else 1)
    names = [name.format(i=number, e=e) for e in every for name in patterns]
    return tuple(Part(name, pairs(name)) for name in names)
