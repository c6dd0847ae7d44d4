"""Matrices in four bits inside a safetensors checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import model
from model.loaders.pick import pick_rows
from model.mtp import quantise, rounded
from tests.model.architecture import relative_rms
from tests.tiny import write_tiny_safetensors

IDS = torch.randint(256, (1, 60), generator=torch.Generator().manual_seed(4))
NAME = "model.layers.0.mlp.up_proj.weight"


def in_four_bits(folder: Path) -> Path:
    """The tiny checkpoint with every matrix in four bits; beside it, in `plain`, one of what they stand for."""
    path = write_tiny_safetensors(folder)
    tensors = load_file(path / "model.safetensors")
    packed: dict[str, Tensor] = {}
    for name, weight in tensors.items():
        if weight.dim() < 2:
            packed[name] = weight
            continue
        codes, scales = quantise(weight)
        packed[f"{name}.codes"] = codes[:, 0::2] | (codes[:, 1::2] << 4)
        packed[f"{name}.scales"] = scales
        tensors[name] = rounded(weight)
    plain = folder / "plain"
    plain.mkdir()
    for file in ("config.json", "tokenizer.json"):
        (plain / file).write_bytes((path / file).read_bytes())
    save_file(tensors, plain / "model.safetensors")
    save_file(packed, path / "model.safetensors")
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_codes_are_what_they_stand_for(tmp_path: Path, dtype: str) -> None:
    path = in_four_bits(tmp_path)
    assert torch.equal(model.load(path, dtype=dtype)(IDS), model.load(tmp_path / "plain", dtype=dtype)(IDS))


def test_four_bits_of_four_bits_are_the_same_codes(tmp_path: Path) -> None:
    path = in_four_bits(tmp_path)
    exact = model.load(path, dtype="float32")(IDS)
    taken, found = (model.load(folder, dtype="int4")(IDS) for folder in (path, tmp_path / "plain"))
    # What is left is activations in bfloat16 and the head in eight bits; the same codes are found by their numbers.
    assert relative_rms(taken, exact) < 0.02 and relative_rms(found, exact) < 0.02
    assert torch.equal(model.load(path)(IDS), taken)  # and they are what such a checkpoint is kept in


def test_rows_are_picked_from_codes(tmp_path: Path) -> None:
    path = in_four_bits(tmp_path)
    rows = torch.tensor([5, 0, 77])
    whole = load_file(tmp_path / "plain" / "model.safetensors")["lm_head.weight"]
    assert torch.equal(torch.cat(list(pick_rows(path, "projection.weight", rows))), whole[rows])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({f"{NAME}.scales": torch.ones(96, 3, dtype=torch.float16)}, r"has codes \[96, 32\] and scales \[96, 3\]"),
        ({f"{NAME}.scales": torch.ones(96, 2)}, "scales in F32"),
        ({f"{NAME}.codes": torch.ones(96, 32)}, "codes in F32"),
        ({f"{NAME}.scales": torch.full((96, 2), torch.nan, dtype=torch.float16)}, rf"{NAME} holds NaN"),
        ({f"{NAME}.scales": None}, r"stored as U8"),
        ({f"{NAME}.codes": None}, rf"missing tensor: {NAME}"),
    ],
)
def test_bad_codes_are_refused_by_name(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = in_four_bits(tmp_path)
    tensors = load_file(path / "model.safetensors") | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path / "model.safetensors")
    with pytest.raises(model.ModelError, match=words):
        model.load(path, dtype="float32")
