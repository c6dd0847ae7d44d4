"""Checkpoints that cannot be, by the doors that open them: one line that names what is wrong, and exit code 1."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DeepseekV2Config, DeepseekV3Config

from model.loaders.gguf import GGUF
from tests.assistant.fake import Shell
from tests.model.test_deepseek import LITE, V2, V3, write
from tests.tiny import write_tiny_gguf, write_tiny_safetensors
from tests.train.test_selection import code, distribution

Change = Callable[[Path], None]
MATRIX = "model.layers.1.self_attn.o_proj.weight"


def qwen2(folder: Path) -> Path:
    return write_tiny_safetensors(folder)


def llama(folder: Path) -> Path:
    return write_tiny_safetensors(folder, family="llama")


def deepseek_v2(folder: Path) -> Path:
    write(folder, DeepseekV2Config, V2 | LITE | {"vocab_size": 279})
    return _with_tokenizer(folder)


def deepseek_v3(folder: Path) -> Path:
    write(folder, DeepseekV3Config, V3 | {"vocab_size": 279})
    return _with_tokenizer(folder)


def _with_tokenizer(folder: Path) -> Path:
    (folder / "other").mkdir()
    os.replace(write_tiny_safetensors(folder / "other") / "tokenizer.json", folder / "tokenizer.json")
    return folder


FAMILIES = {make.__name__: make for make in (qwen2, llama, deepseek_v2, deepseek_v3)}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's own checkpoint, made once."""
    return cache(lambda family: FAMILIES[family](tmp_path_factory.mktemp(family)))


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return apply


def written(name: str, change: Callable[[Any], object]) -> Change:
    def apply(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        change(values)
        (folder / name).write_text(json.dumps(values))

    return apply


def config(**values: object) -> Change:
    return written("config.json", lambda found: found.update(values))


def added(identity: int) -> Change:
    token = {"content": "<|far|>", "id": identity, "special": True}
    return written("tokenizer.json", lambda found: found["added_tokens"].append(token))


def fp8(factors: torch.Tensor | None, block: list[int]) -> Change:
    def apply(folder: Path) -> None:
        config(quantization_config={"quant_method": "fp8", "weight_block_size": block})(folder)
        own = {} if factors is None else {f"{MATRIX}_scale_inv": factors}
        tensors(lambda w: w.update({MATRIX: w[MATRIX].to(torch.float8_e4m3fn), **own}))(folder)

    return apply


def poisoned(name: str) -> Change:
    def apply(folder: Path) -> None:
        weights = {key: value.bfloat16() for key, value in load_file(folder / "model.safetensors").items()}
        weights[name][7, 1] = float("nan")
        save_file(weights, folder / "model.safetensors")

    return apply


def piped(name: str) -> Change:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return apply


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def emptied(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def in_two(folder: Path) -> None:
    index = {"weight_map": {MATRIX: "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


CHANGES: dict[str, tuple[Change, str]] = {
    "missing": (tensors(lambda w: w.pop(MATRIX)), f"1 missing tensor: {MATRIX}"),
    "shape": (tensors(lambda w: w.update({MATRIX: torch.zeros(3, 5)})), f"{MATRIX} has shape [3, 5], not"),
    "unknown": (tensors(lambda w: w.update({"more": torch.zeros(2)})), "1 unknown tensor: more"),
    "nan": (poisoned(MATRIX), f"{MATRIX} holds NaN or infinity"),
    # On a processor its rows are read when they are needed, and the head is another matrix.
    "embedding": (poisoned("model.embed_tokens.weight"), "model.embed_tokens.weight holds NaN or infinity"),
    "factors": (tensors(lambda w: w.update({"model.norm.weight_scale_inv": torch.ones(1)})), "1 unknown tensor: "),
    "cut": (cut, "model.safetensors: "),
    "empty": (emptied, "model.safetensors: "),
    "shard": (in_two, "model-00002-of-00002.safetensors"),
    "pipe": (piped("model.safetensors"), "model.safetensors is no ordinary file"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "config pipe": (piped("config.json"), "config.json is no ordinary file"),
    "negative": (config(num_hidden_layers=-1), "layers is -1; expected 1 to 1024"),
    "depth": (config(num_nextn_predict_layers=2**70), f"draft_depth is {2**70}; expected 0 to 1024"),
    "no positions": (config(grouped_positions={}), "window is missing"),
    "order": (config(gap_order="x"), "gap_order is 'x' (known: prefix-first, suffix-first)"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "far": (added(4 * 10**9), "has ids from 0 to 4000000000"),
    "below": (added(-5), "has ids from -5 to"),
}
EXPERTS: dict[str, tuple[Change, str]] = {
    "biased": (config(mlp_bias=True), "mlp_bias with experts is not supported"),
    "fp8 alone": (fp8(None, [128, 128]), f"tensor {MATRIX} is in FP8 without {MATRIX}_scale_inv"),
    "fp8 factors": (fp8(torch.ones(2, 2), [128, 128]), f"{MATRIX}_scale_inv is F32 [2, 2]; expected F32 [1, 1]"),
    "fp8 block": (fp8(torch.ones(1, 1), [2**70, 2**70]), "weight_block_size"),
    "rotary": (config(qk_rope_head_dim=2**70), f"rotary width is {2**70}; expected at most 4096"),
}


def refused(viable: Shell, model: Path, words: str) -> None:
    file = model.parent / "asked.py"
    file.write_text("x = 1\n")
    files = {"networkx/m.py": code("name", 31) + code("more", 17)}
    distribution(model.parent / "site", "networkx", "License-Expression: MIT", files)
    measured = ("eval", "source", "--files", "1", "--site", model.parent / "site")
    doors: list[tuple[object, ...]] = [("complete", file, "--at", "1:5"), measured]
    for door in doors:
        ran = viable(*door, "--model", model)
        assert (ran.code, ran.out) == (1, ""), ran.err
        assert words in ran.err and ran.err.count("\n") == 1, ran.err


@pytest.mark.parametrize("family", FAMILIES)
def test_as_it_was_it_is_taken(viable: Shell, tmp_path: Path, good: Callable[[str], Path], family: str) -> None:
    (tmp_path / "asked.py").write_text("x = 1\n")
    ran = viable("complete", tmp_path / "asked.py", "--at", "1:5", "--max-tokens", "2", "--model", good(family))
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("family", "name"), [*product(FAMILIES, CHANGES), *product(["deepseek_v2", "deepseek_v3"], EXPERTS)]
)
def test_a_folder_is_refused(
    viable: Shell, tmp_path: Path, good: Callable[[str], Path], family: str, name: str
) -> None:
    change, words = (CHANGES | EXPERTS)[name]
    folder = shutil.copytree(good(family), tmp_path / "m")
    change(folder)
    refused(viable, folder, words)


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q5_0", "Q8_0"])
def test_an_embedding_of_a_gguf_file_that_is_no_number(viable: Shell, tmp_path: Path, kind: str) -> None:
    path = write_tiny_gguf(tmp_path, kind=kind)
    data = bytearray(path.read_bytes())
    entry = GGUF(path).tensors["token_embd.weight"]
    place = entry.start + 9 * entry.size // entry.rows  # the first number, or the first block's factor, of a row
    data[place : place + 2] = b"\xff\x7f"
    path.write_bytes(data)
    refused(viable, path, "token_embd.weight holds NaN or infinity")


def test_a_gguf_file_that_is_a_pipe(viable: Shell, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    refused(viable, tmp_path / "m.gguf", "m.gguf is no ordinary file")


def test_nothing_cuts_or_fills_up_what_is_encoded(tmp_path: Path) -> None:
    import model

    folder = write_tiny_safetensors(tmp_path)
    whole = model.load_tokenizer(folder).encode("return 12345")
    sizes: dict[str, Any] = {"direction": "Right", "strategy": {"Fixed": 99}, "pad_to_multiple_of": None}
    padding = sizes | {"pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
    cutting = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    written("tokenizer.json", lambda found: found.update(padding=padding, truncation=cutting))(folder)
    assert model.load_tokenizer(folder).encode("return 12345") == whole
