"""The default model: the same choices as transformers on the same weights, and what eight bits cost."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import model
from assistant.bench.corpus import site_packages, standard_library
from assistant.bench.decode_cpu import measure_quality, windows_of
from model.loaders import names
from model.loaders.sources import open_source

pytestmark = [pytest.mark.model, pytest.mark.slow]


def reference(path: Path) -> Qwen2ForCausalLM:
    """Their decoder with the file's numbers in it, tensor by tensor.

    The file keeps the tied matrix of the original twice, in five bits for the embedding and in eight for the head; both
    are the latter's here, as in ours.
    """
    source = open_source(path)
    ours = source.config
    config = Qwen2Config(
        vocab_size=ours.vocab_size,
        hidden_size=ours.width,
        num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads,
        num_key_value_heads=ours.groups,
        intermediate_size=ours.feed_forward_width,
        max_position_embeddings=ours.context_length,
        rms_norm_eps=ours.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": ours.rope.theta},
        tie_word_embeddings=ours.tied_head,
    )
    with torch.device("meta"):
        theirs: Qwen2ForCausalLM = Qwen2ForCausalLM(config)
    theirs.to_empty(device="cpu")
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config)
    by_gguf_name = {
        gguf.format(i=layer): hub.format(i=layer)
        for key in names.GGUF
        for gguf, hub in zip(names.GGUF[key], names.HUB[key], strict=True)
        for layer in range(ours.layers)
    }
    weights = dict(theirs.named_parameters())
    with torch.no_grad():
        for name in source.names():
            shape = source.shape(name)
            weight = weights.pop(by_gguf_name[name])
            for start in range(0, shape[0] if len(shape) > 1 else 1, 4096):
                rows = source.rows(name, start, min(start + 4096, shape[0] if len(shape) > 1 else 1))
                weight.view(-1, shape[-1])[start : start + len(rows)] = rows
    assert not weights
    embedding, head = theirs.get_input_embeddings().weight, theirs.lm_head.weight
    assert (embedding - head).norm() < 0.05 * head.norm()
    theirs.get_input_embeddings().weight = theirs.lm_head.weight
    theirs.train(False)
    return theirs


def test_first_choices_equal_transformers(default_model: Path) -> None:
    encode = model.load_tokenizer(default_model).encode
    windows = windows_of([*standard_library(12), *site_packages(12)], encode, 4)
    positions = torch.tensor(windows)
    assert positions.numel() >= 2000
    with torch.inference_mode():
        theirs = reference(default_model)
        expected = torch.stack([theirs(row.unsqueeze(0)).logits[0].argmax(-1) for row in positions])
        del theirs
        gc.collect()
        ours = model.load(default_model, dtype="float32")
        chosen = torch.stack([ours(row.unsqueeze(0))[0].argmax(-1) for row in positions])
    share = float((chosen == expected).float().mean())
    print(f"first choices as transformers: {100 * share:.2f} % of {positions.numel()} positions")
    assert share >= 0.995


def test_eight_bits_cost_at_most_one_percent(default_model: Path) -> None:
    figures = measure_quality(default_model, "auto", torch.get_num_threads())
    print(f"{figures}")
    assert figures["bits_per_byte_cost_percent"] <= 1
    assert figures["same_first_choice_percent"] >= 95
