"""Which tensors of a checkpoint make up which of ours: one table per file format and family.

A key of ours is a path in the decoder, with `{i}` for the layer; its value lists the checkpoint's tensors whose rows
are stacked, in order. A new family is a new table, and a row in `model.config.FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    """One tensor of the checkpoint: its rows go into ours as they are, or un-interleaved head by head."""

    name: str
    interleaved: bool = False


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
    "norm.weight": ("model.norm.weight",),
    "projection.weight": ("lm_head.weight",),
}

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
_ROTARY = re.compile(r"blk\.\d+\.attn_[qk]\.(weight|bias)")
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def parts(table: Table, key: str, rotary_interleaved: bool) -> tuple[Part, ...]:
    """The checkpoint's tensors for `key` of ours. KeyError if the table has no such key."""
    layer = _LAYER.search(key)
    number = layer[0] if layer else ""
    names = [name.format(i=number) for name in table[_LAYER.sub("{i}", key, count=1)]]
    return tuple(Part(name, rotary_interleaved and _ROTARY.fullmatch(name) is not None) for name in names)
