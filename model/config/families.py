"""What a family fixes without writing it into its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from model.errors import UnsupportedModel, printable


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
    "deepseek_v2": Family(qkv_bias=None, out_bias=None, theta=10_000.0, gguf_rotary_interleaved=False),
    "deepseek_v3": Family(qkv_bias=None, out_bias=None, theta=10_000.0, gguf_rotary_interleaved=False),
    "viable": Family(qkv_bias=None, out_bias=None, theta=10_000.0, gguf_rotary_interleaved=False),
}


def family(name: str) -> Family:
    """The family called `name`; UnsupportedModel names it and those that are known."""
    if name not in FAMILIES:
        raise UnsupportedModel(
            f"model family '{printable(name)}' is not supported (known: {', '.join(sorted(FAMILIES))})"
        )
    return FAMILIES[name]
