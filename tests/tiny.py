"""Tiny random models on disk, for tests that need a real file and not a real model.

    path = write_tiny_gguf(tmp_path)            # a file for `--model PATH`
    path = write_tiny_safetensors(tmp_path)     # a folder for `--model PATH`

Both hold the same weights for the same arguments. The vocabulary is byte-level BPE: 256 bytes, a few merges, the
tokens that frame a gap, `<|endoftext|>`, and three unused ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file
from torch import Tensor

from model.config import llama3_factors
from model.tokenizer import ByteTokenizer

MERGES = ["Ġ Ġ", "ĠĠ ĠĠ", "i n", "r e", "d e", "de f", "re t", "u r", "ret ur", "retur n", "Ċ ĠĠĠĠ", "s e", "Ġ i"]


@dataclass(frozen=True)
class Shape:
    """Everything that a test may want to vary about a tiny model."""

    family: str = "qwen2"
    width: int = 64
    layers: int = 2
    heads: int = 4
    groups: int = 2
    feed_forward: int = 96
    context: int = 1024
    theta: float = 10_000.0
    tied: bool = False
    llama3: bool = False  # Llama 3's rotary scaling
    seed: int = 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads


SCALING: dict[str, float] = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def write_tiny_gguf(
    folder: Path, shape: Shape | None = None, kind: str = "F32", name: str = "tiny.gguf", **changes: Any
) -> Path:
    """A GGUF file in `folder`; its matrices are of `kind`, or F32 where their rows are no whole blocks of it."""
    shape = replace(shape or Shape(), **changes)
    path = folder / name
    writer = gguf.GGUFWriter(path, shape.family)
    writer.add_name("tiny")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.groups)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(shape.theta)
    _add_vocabulary(writer, shape)
    if shape.llama3:
        factors = llama3_factors(
            shape.theta,
            shape.head_width,
            SCALING["factor"],
            SCALING["low_freq_factor"],
            SCALING["high_freq_factor"],
            int(SCALING["original_max_position_embeddings"]),
        )
        writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    for key, weight in weights(shape).items():
        theirs = _gguf_name(key)
        if shape.family == "llama" and ("q_proj" in key or "k_proj" in key):
            weight = weight.unflatten(0, (-1, 2, shape.head_width // 2)).transpose(1, 2).flatten(0, 2)
        numbers = weight.contiguous().numpy()
        block = gguf.GGML_QUANT_SIZES[Kind[kind]][0]
        if weight.dim() > 1 and weight.shape[1] % block == 0 and kind != "F32":
            writer.add_tensor(theirs, gguf.quantize(numbers, Kind[kind]), raw_dtype=Kind[kind])
        else:
            writer.add_tensor(theirs, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_safetensors(
    folder: Path, shape: Shape | None = None, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """A folder `folder/tiny` with config.json, model.safetensors and tokenizer.json."""
    shape = replace(shape or Shape(), **changes)
    path = folder / "tiny"
    path.mkdir(parents=True, exist_ok=True)
    rope: dict[str, Any] = {"rope_theta": shape.theta, "rope_type": "default"}
    if shape.llama3:
        rope = {"rope_theta": shape.theta, "rope_type": "llama3", **SCALING}
    config = {
        "architectures": [{"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}[shape.family]],
        "model_type": shape.family,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context,
        "vocab_size": len(tokens()),
        "rms_norm_eps": 1e-6,
        "rope_parameters": rope,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
        "eos_token_id": specials()["<|endoftext|>"],
    }
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({k: w.to(dtype).contiguous() for k, w in weights(shape).items()}, path / "model.safetensors")
    (path / "tokenizer.json").write_text(
        json.dumps(_tokenizer_json(shape.family), ensure_ascii=False), encoding="utf-8"
    )
    return path


def weights(shape: Shape) -> dict[str, Tensor]:
    """Random weights by their names in a safetensors checkpoint; rotary halves one after the other."""
    random = torch.Generator().manual_seed(shape.seed)
    vocabulary, width, inner = len(tokens()), shape.width, shape.feed_forward
    kv = shape.groups * shape.head_width
    found: dict[str, Tensor] = {}

    def put(name: str, *size: int) -> None:
        scale = size[-1] ** -0.5 if len(size) > 1 else 0.1
        found[name] = torch.randn(*size, generator=random) * scale + (1.0 if "norm" in name else 0.0)

    put("model.embed_tokens.weight", vocabulary, width)
    for i in range(shape.layers):
        at = f"model.layers.{i}"
        put(f"{at}.input_layernorm.weight", width)
        put(f"{at}.post_attention_layernorm.weight", width)
        for name, rows in (("q", width), ("k", kv), ("v", kv)):
            put(f"{at}.self_attn.{name}_proj.weight", rows, width)
            if shape.family == "qwen2":
                put(f"{at}.self_attn.{name}_proj.bias", rows)
        put(f"{at}.self_attn.o_proj.weight", width, width)
        put(f"{at}.mlp.gate_proj.weight", inner, width)
        put(f"{at}.mlp.up_proj.weight", inner, width)
        put(f"{at}.mlp.down_proj.weight", width, inner)
    put("model.norm.weight", width)
    if not shape.tied:
        put("lm_head.weight", vocabulary, width)
    return found


def tokens() -> list[str]:
    """All tokens in order of their ids."""
    bytes_in_order = sorted(_byte_alphabet(), key=_byte_alphabet().__getitem__)
    merged = [merge.replace(" ", "") for merge in MERGES]
    return [*bytes_in_order, *merged, *ByteTokenizer.NAMES, *(f"[PAD{i}]" for i in range(3))]


def specials() -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens()) if token in ByteTokenizer.NAMES}


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's: printable Latin-1 stands for itself, other bytes for U+0100 and what follows."""
    own = [b for b in range(256) if b in range(0x21, 0x7F) or (b in range(0xA1, 0x100) and b != 0xAD)]
    others = [b for b in range(256) if b not in own]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}


def _add_vocabulary(writer: gguf.GGUFWriter, shape: Shape) -> None:
    names = set(ByteTokenizer.NAMES)
    kinds = [3 if t in names else 5 if t.startswith("[PAD") else 1 for t in tokens()]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre({"qwen2": "qwen2", "llama": "llama-bpe"}[shape.family])
    writer.add_token_list(tokens())
    writer.add_token_types(kinds)
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(specials()["<|endoftext|>"])


# How the families cut text before merging, from their published tokenizer.json.
_CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _tokenizer_json(family: str) -> dict[str, Any]:
    digits = {"qwen2": r"\p{N}", "llama": r"\p{N}{1,3}"}[family]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    plain = [t for t in tokens() if t not in specials() and not t.startswith("[PAD")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, "special": token == "<|endoftext|>", **flags} for token, i in specials().items()
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _CUT % digits}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens()) if token in set(plain)},
            "merges": MERGES,
        },
    }


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers.": "blk.",
}


def _gguf_name(key: str) -> str:
    for theirs, ours in _GGUF_NAMES.items():
        key = key.replace(theirs, ours)
    return key
