"""A configuration from GGUF metadata."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from model.config.families import family
from model.config.model import ModelConfig, Rope, rotary_width
from model.config.reader import Reader
from model.config.scaling import linear_factors
from model.errors import UnsupportedModel, printable


@dataclass(frozen=True)
class Biases:
    """Which projections of a GGUF checkpoint have one: only its tensor table tells."""

    qkv: bool
    out: bool
    feed_forward: bool

    @classmethod
    def among(cls, names: Container[str]) -> Biases:
        """Judged by the tensors of the first block."""
        return cls("blk.0.attn_q.bias" in names, "blk.0.attn_output.bias" in names, "blk.0.ffn_down.bias" in names)


def from_gguf(
    metadata: Mapping[str, Any],
    vocab_size: int,
    tied_head: bool,
    biases: Biases,
    factors: tuple[float, ...] | None,
) -> ModelConfig:
    """A ModelConfig from GGUF metadata and what only the tensor table tells.

    vocab_size: rows of the embedding. biases: which projections have one. factors: the table
    `rope_freqs.weight`, which is how GGUF stores Llama 3's scaling.
    """
    read = Reader(metadata, "GGUF metadata")
    name = read.text("general.architecture")
    defaults = family(name)
    width, heads = read.integer(f"{name}.embedding_length"), read.integer(f"{name}.attention.head_count")
    head_width = read.integer(f"{name}.attention.key_length", width // heads if heads > 0 else 0)
    rope_width = rotary_width(read.integer(f"{name}.rope.dimension_count", head_width))
    if defaults.gguf_rotary_interleaved and rope_width != head_width:
        raise UnsupportedModel(f"rotary width {rope_width} in heads of width {head_width} is not supported for {name}")
    theta = read.number(f"{name}.rope.freq_base", defaults.theta)
    kind = read.get(f"{name}.rope.scaling.type", str, "none")
    if kind == "linear" and factors is None:
        factors = linear_factors(rope_width, read.positive(f"{name}.rope.scaling.factor"))
    elif kind not in ("none", "linear"):
        raise UnsupportedModel(f"rotary scaling '{printable(kind)}' is not supported in GGUF (known: linear, none)")
    return ModelConfig(
        family=name,
        vocab_size=vocab_size,
        width=width,
        layers=read.integer(f"{name}.block_count"),
        heads=heads,
        groups=read.integer(f"{name}.attention.head_count_kv", heads),
        head_width=head_width,
        feed_forward_width=read.integer(f"{name}.feed_forward_length"),
        context_length=read.integer(f"{name}.context_length"),
        rope=Rope(theta, rope_width, factors),
        norm_eps=read.number(f"{name}.attention.layer_norm_rms_epsilon", 1e-6),
        tied_head=tied_head,
        qkv_bias=biases.qkv,
        out_bias=biases.out,
        feed_forward_bias=biases.feed_forward,
        name=read.get("general.name", str, ""),
    )
