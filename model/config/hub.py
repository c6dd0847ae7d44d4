"""A configuration from a checkpoint's `config.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from model.config import deepseek, own
from model.config.families import Family, family
from model.config.model import ModelConfig, Rope, rotary_width
from model.config.parts import Grouped
from model.config.reader import Reader
from model.config.scaling import linear_factors, llama3_factors, yarn_factors, yarn_gain
from model.errors import BadModelFile, UnsupportedModel, printable


def from_config_json(config: Mapping[str, Any]) -> ModelConfig:
    """A ModelConfig from the contents of a checkpoint's `config.json`."""
    read = Reader(config, "config.json")
    name = read.text("model_type")
    defaults = family(name)
    act = read.get("hidden_act", str, "silu")
    if act != "silu":
        raise UnsupportedModel(f"activation '{printable(act)}' is not supported (known: silu)")
    if name == own.FAMILY:
        return own.from_json(config)
    width, heads = read.integer("hidden_size"), read.integer("num_attention_heads")
    head_width = read.integer("head_dim", width // heads if heads > 0 else 0)
    bias = read.get("attention_bias", bool, False)
    values: dict[str, Any] = {
        "family": name,
        "vocab_size": read.integer("vocab_size"),
        "width": width,
        "layers": read.integer("num_hidden_layers"),
        "heads": heads,
        "groups": read.integer("num_key_value_heads", heads),
        "head_width": head_width,
        "feed_forward_width": read.integer("intermediate_size"),
        "context_length": read.integer("max_position_embeddings"),
        "rope": _rope_from_json(read, read.integer("qk_rope_head_dim", head_width), defaults),
        "norm_eps": read.number("rms_norm_eps", 1e-6),
        "tied_head": read.get("tie_word_embeddings", bool, False),
        "qkv_bias": bias if defaults.qkv_bias is None else defaults.qkv_bias,
        "out_bias": bias if defaults.out_bias is None else defaults.out_bias,
        "feed_forward_bias": read.get("mlp_bias", bool, False),
        "attention": _attention(read),
        "window": read.integer("sliding_window", 4096),
        # DeepSeek-V3's name for them; what is trained here has them in any family, and may differ from what is
        # published, which it says beside its other sizes.
        "draft_depth": read.integer("num_nextn_predict_layers", 0),
        "draft_chain_normed": bool(read.get("small", dict, {}).get("chain_normed", True)),
        "name": read.get("_name_or_path", str, ""),
    }
    if name in deepseek.ROUTINGS:
        values |= deepseek.parts(read, name, values["rope"])
    return ModelConfig(**_extended(read, values))


def _extended(read: Reader, values: dict[str, Any]) -> dict[str, Any]:
    """With what this project adds to a family's own configuration.

    `grouped_positions`: the fields of `Grouped`. `routing`: `threshold` and `fallback` of `Experts`.
    """
    if (positions := read.get("grouped_positions", dict, None)) is not None:
        inner = Reader(positions, "config.json grouped_positions")
        grouped = Grouped(inner.integer("window"), inner.integer("factor"), inner.get("tempered", bool, False))
        values |= {"grouped": grouped, "attention": f"{values['attention']}-grouped"}
    if (routing := read.get("routing", dict, None)) is not None and values.get("experts"):
        inner = Reader(routing, "config.json routing")
        threshold, fallback = inner.number("threshold"), inner.get("fallback", str, "topk")
        values["experts"] = replace(values["experts"], threshold=threshold, fallback=fallback)
    return values


def _attention(read: Reader) -> str:
    """Qwen2's sliding window is for the layers from `max_window_layers` on, which may be none of them."""
    first, layers = read.integer("max_window_layers", 0), read.integer("num_hidden_layers")
    if not read.get("use_sliding_window", bool, False) or first >= layers:
        return "gqa"
    if first > 0:
        raise UnsupportedModel(f"a sliding window in the layers from {first} on, of {layers}, is not supported")
    return "swa"


def _rope_from_json(read: Reader, width: int, defaults: Family) -> Rope:
    inner = read.rope()
    theta = inner.positive("rope_theta", read.number("rope_theta", defaults.theta))
    kind = inner.get("rope_type", str, inner.get("type", str, "default"))
    if kind not in _SCALINGS:
        raise UnsupportedModel(
            f"rotary scaling '{printable(kind)}' is not supported (known: {', '.join(sorted(_SCALINGS))})"
        )
    return _SCALINGS[kind](inner, Rope(theta, rotary_width(width)))


def _linear(read: Reader, rope: Rope) -> Rope:
    return replace(rope, factors=linear_factors(rope.width, read.positive("factor")))


def _llama3(read: Reader, rope: Rope) -> Rope:
    low, high = read.number("low_freq_factor"), read.number("high_freq_factor")
    if not 0 < low < high:
        raise BadModelFile(f"rotary scaling has low_freq_factor {low} and high_freq_factor {high}")
    original = read.integer("original_max_position_embeddings")
    return replace(rope, factors=llama3_factors(rope.theta, rope.width, read.positive("factor"), low, high, original))


def _yarn(read: Reader, rope: Rope) -> Rope:
    factor, original = read.positive("factor"), read.integer("original_max_position_embeddings")
    fast, slow = read.positive("beta_fast", 32.0), read.positive("beta_slow", 1.0)
    if original < 1 or rope.theta == 1 or fast < slow:
        raise BadModelFile(f"rotary scaling from {original} positions between {slow} and {fast} turns")
    one, every = read.number("mscale", 0.0), read.number("mscale_all_dim", 0.0)
    gain = yarn_gain(factor, one) / yarn_gain(factor, every) if one and every else yarn_gain(factor)
    return replace(
        rope,
        factors=yarn_factors(rope.theta, rope.width, factor, fast, slow, original, read.get("truncate", bool, True)),
        gain=read.positive("attention_factor", gain),
    )


_SCALINGS: dict[str, Callable[[Reader, Rope], Rope]] = {
    "default": lambda read, rope: rope,
    "none": lambda read, rope: rope,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
