"""What a decoder is made of, as data: read from `config.json` or GGUF metadata, never changed afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from model.errors import BadModelFile, UnsupportedModel, printable


@dataclass(frozen=True)
class Rope:
    """Rotary positions: frequencies theta^(-2i/width), each divided by `factors[i]` where factors are given.

    `factors` has width/2 entries. It is how every supported scaling is expressed: linear (all the same),
    Llama 3 (bent by wavelength, `llama3_factors`), or a table that comes with the checkpoint.
    """

    theta: float
    width: int
    factors: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer. Widths in features, lengths in tokens."""

    family: str  # "qwen2", "llama", …: which checkpoint names and defaults apply
    vocab_size: int  # V
    width: int  # residual stream
    layers: int
    heads: int  # H, query heads
    groups: int  # G, key/value heads; heads is a multiple of it
    head_width: int  # D
    feed_forward_width: int
    context_length: int
    rope: Rope
    norm_eps: float
    tied_head: bool  # the head is the embedding
    qkv_bias: bool
    out_bias: bool
    feed_forward_bias: bool
    attention: str = "gqa"  # a name in model.attention.ATTENTIONS
    name: str = ""

    def __post_init__(self) -> None:
        for field, largest in LARGEST.items():
            value = getattr(self, field)
            if not 1 <= value <= largest:
                raise BadModelFile(f"{field} is {value}; expected 1 to {largest}")
        if self.heads % self.groups:
            raise BadModelFile(f"{self.heads} query heads cannot be shared out over {self.groups} key heads")
        if self.rope.width % 2 or not 2 <= self.rope.width <= self.head_width:
            raise BadModelFile(f"rotary width {self.rope.width} does not fit heads of width {self.head_width}")
        if self.rope.factors is not None and len(self.rope.factors) != self.rope.width // 2:
            raise BadModelFile(f"{len(self.rope.factors)} rotary factors for {self.rope.width // 2} frequencies")
        if not (math.isfinite(self.rope.theta) and self.rope.theta > 0):
            raise BadModelFile(f"rotary base is {self.rope.theta}")
        if not 0 < self.norm_eps < 1:
            raise BadModelFile(f"norm epsilon is {self.norm_eps}")

    def feed_forward_at(self, layer: int) -> str:
        """Which feed-forward the block at `layer` has: a name in model.feed_forward.FEED_FORWARDS."""
        return "dense"


LARGEST: dict[str, int] = {
    "vocab_size": 4_000_000,
    "width": 65_536,
    "layers": 1_024,
    "heads": 1_024,
    "groups": 1_024,
    "head_width": 4_096,
    "feed_forward_width": 1_048_576,
    "context_length": 100_000_000,
}


@dataclass(frozen=True)
class Family:
    """What a family fixes without writing it into its configuration."""

    qkv_bias: bool | None  # None: the configuration says (`attention_bias`)
    out_bias: bool | None
    theta: float
    gguf_rotary_interleaved: bool  # GGUF stores query/key rows pairwise instead of half by half


FAMILIES: dict[str, Family] = {
    "qwen2": Family(qkv_bias=True, out_bias=False, theta=10_000.0, gguf_rotary_interleaved=False),
    "llama": Family(qkv_bias=None, out_bias=None, theta=10_000.0, gguf_rotary_interleaved=True),
}


def family(name: str) -> Family:
    """The family called `name`; UnsupportedModel names it and those that are known."""
    if name not in FAMILIES:
        raise UnsupportedModel(
            f"model family '{printable(name)}' is not supported (known: {', '.join(sorted(FAMILIES))})"
        )
    return FAMILIES[name]


def llama3_factors(
    theta: float, width: int, factor: float, low: float, high: float, original_length: int
) -> tuple[float, ...]:
    """Llama 3's scaling: short wavelengths kept, long ones divided by `factor`, a smooth bend between.

    Wavelengths are compared with original_length/high and original_length/low positions.
    Source: "The Llama 3 Herd of Models" and its published rope_scaling parameters.
    """
    factors = []
    for i in range(width // 2):
        wavelength = 2 * math.pi * theta ** (2 * i / width)
        if wavelength < original_length / high:
            factors.append(1.0)
        elif wavelength > original_length / low:
            factors.append(factor)
        else:
            smooth = (original_length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(factors)


def linear_factors(width: int, factor: float) -> tuple[float, ...]:
    """Position interpolation: every frequency divided by the same factor."""
    return (factor,) * (width // 2)


def from_config_json(config: Mapping[str, Any]) -> ModelConfig:
    """A ModelConfig from the contents of a checkpoint's `config.json`."""
    read = _Reader(config, "config.json")
    name = read.text("model_type")
    defaults = family(name)
    act = read.get("hidden_act", str, "silu")
    if act != "silu":
        raise UnsupportedModel(f"activation '{printable(act)}' is not supported (known: silu)")
    width, heads = read.integer("hidden_size"), read.integer("num_attention_heads")
    head_width = read.integer("head_dim", width // heads if heads > 0 else 0)
    bias = read.get("attention_bias", bool, False)
    return ModelConfig(
        family=name,
        vocab_size=read.integer("vocab_size"),
        width=width,
        layers=read.integer("num_hidden_layers"),
        heads=heads,
        groups=read.integer("num_key_value_heads", heads),
        head_width=head_width,
        feed_forward_width=read.integer("intermediate_size"),
        context_length=read.integer("max_position_embeddings"),
        rope=_rope_from_json(read, head_width, defaults),
        norm_eps=read.number("rms_norm_eps", 1e-6),
        tied_head=read.get("tie_word_embeddings", bool, False),
        qkv_bias=bias if defaults.qkv_bias is None else defaults.qkv_bias,
        out_bias=bias if defaults.out_bias is None else defaults.out_bias,
        feed_forward_bias=read.get("mlp_bias", bool, False),
        attention="swa" if read.get("use_sliding_window", bool, False) else "gqa",
        name=read.get("_name_or_path", str, ""),
    )


def _rope_from_json(read: _Reader, width: int, defaults: Family) -> Rope:
    # transformers 5 keeps everything in `rope_parameters`; before, theta stood beside `rope_scaling`.
    scaling = read.get("rope_parameters", dict, None) or read.get("rope_scaling", dict, None) or {}
    inner = _Reader(scaling, "config.json rope parameters")
    theta = inner.number("rope_theta", read.number("rope_theta", defaults.theta))
    kind = inner.get("rope_type", str, inner.get("type", str, "default"))
    if kind not in _SCALINGS:
        raise UnsupportedModel(
            f"rotary scaling '{printable(kind)}' is not supported (known: {', '.join(sorted(_SCALINGS))})"
        )
    return Rope(theta, width, _SCALINGS[kind](inner, theta, width))


def _llama3(read: _Reader, theta: float, width: int) -> tuple[float, ...]:
    low, high = read.number("low_freq_factor"), read.number("high_freq_factor")
    if not 0 < low < high:
        raise BadModelFile(f"rotary scaling has low_freq_factor {low} and high_freq_factor {high}")
    original = read.integer("original_max_position_embeddings")
    return llama3_factors(theta, width, _positive(read, "factor"), low, high, original)


def _positive(read: _Reader, key: str) -> float:
    value = read.number(key)
    if value <= 0:
        raise BadModelFile(f"{read.where}: {key} is {value}")
    return value


_SCALINGS: dict[str, Callable[[_Reader, float, int], tuple[float, ...] | None]] = {
    "default": lambda read, theta, width: None,
    "none": lambda read, theta, width: None,
    "linear": lambda read, theta, width: linear_factors(width, _positive(read, "factor")),
    "llama3": _llama3,
}


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
    read = _Reader(metadata, "GGUF metadata")
    name = read.text("general.architecture")
    defaults = family(name)
    width, heads = read.integer(f"{name}.embedding_length"), read.integer(f"{name}.attention.head_count")
    head_width = read.integer(f"{name}.attention.key_length", width // heads if heads > 0 else 0)
    rope_width = read.integer(f"{name}.rope.dimension_count", head_width)
    if defaults.gguf_rotary_interleaved and rope_width != head_width:
        raise UnsupportedModel(f"rotary width {rope_width} in heads of width {head_width} is not supported for {name}")
    theta = read.number(f"{name}.rope.freq_base", defaults.theta)
    kind = read.get(f"{name}.rope.scaling.type", str, "none")
    if kind == "linear" and factors is None:
        factors = linear_factors(rope_width, _positive(read, f"{name}.rope.scaling.factor"))
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


class _Reader:
    """Typed look-ups that name the key and the offending value."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise BadModelFile(f"{self.where}: {key} is {printable(repr(value))}, not a {kind.__name__}")
        return value

    def text(self, key: str) -> str:
        value = self.get(key, str, None)
        if value is None:
            raise BadModelFile(f"{self.where} has no {key}")
        return str(value)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            problem = "is missing" if value is None else f"is {printable(repr(value))}, not a whole number"
            raise BadModelFile(f"{self.where}: {key} {problem}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            problem = "is missing" if value is None else f"is {printable(repr(value))}, not a number"
            raise BadModelFile(f"{self.where}: {key} {problem}")
        return float(value)
