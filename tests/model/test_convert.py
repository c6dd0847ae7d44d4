"""Grouped-query attention as latent attention: the same logits, from one row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import model
from assistant.__main__ import run
from assistant.cli.convert import command
from model.attention.gqa import GroupedQueryAttention
from model.attention.mla import LatentAttention
from model.convert import as_latent, convert
from tests.model.architecture import CONFIG, relative_rms
from tests.tiny import Shape, tokens, write_tiny_safetensors

SHAPES = {
    "qwen2": Shape("qwen2"),
    "qwen2-tied-one-group": Shape("qwen2", tied=True, groups=1, theta=1e6),
    "llama": Shape("llama"),
    "llama3-scaling-tied": Shape("llama", llama3=True, tied=True, groups=4),
    "llama-three-groups": Shape("llama", width=96, heads=6, groups=3, layers=3),
}
IDS = torch.randint(len(tokens()), (2, 131), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_logits_are_the_same(tmp_path: Path, shape: Shape) -> None:
    before, after = write_tiny_safetensors(tmp_path, shape), tmp_path / "latent"
    convert(before, after)
    old, new = (model.load(path, dtype="float32") for path in (before, after))
    assert (old(IDS) - new(IDS)).abs().max() <= 1e-4
    assert relative_rms(new(IDS), old(IDS)) <= 5e-6
    cache = new.new_cache(256, batch=2)
    with torch.inference_mode():
        pieces = [new.hidden(part, cache) for part in IDS.split((64, 1, 3, 30, 33), 1)]
    assert (new.head(torch.cat(pieces, 1)) - old(IDS)).abs().max() <= 1e-4


def test_far_positions_turn_alike(tmp_path: Path) -> None:
    before, after = write_tiny_safetensors(tmp_path, context=4096), tmp_path / "latent"
    convert(before, after)
    ids = torch.randint(256, (1, 3000), generator=torch.Generator().manual_seed(2))
    old, new = (model.load(path, dtype="float32")(ids)[:, -100:] for path in (before, after))
    assert (old - new).abs().max() <= 1e-4


def test_the_cache_is_no_larger(tmp_path: Path) -> None:
    before, after = write_tiny_safetensors(tmp_path), tmp_path / "latent"
    convert(before, after)
    old, new = (model.load(path).config for path in (before, after))
    kept = sum(row.heads * row.width for row in GroupedQueryAttention.rows(old, 0))
    assert sum(row.heads * row.width for row in LatentAttention.rows(new, 0)) == kept


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    before, after = write_tiny_safetensors(tmp_path, dtype=torch.bfloat16), tmp_path / "latent"
    convert(before, after)
    assert {weight.dtype for weight in model.load(after, dtype="bfloat16").parameters()} == {torch.bfloat16}
    old, new = (model.load(path, dtype="float32") for path in (before, after))
    assert (old(IDS) - new(IDS)).abs().max() <= 1e-4


@pytest.mark.parametrize(("dtype", "bound"), [("int8", 0.05), ("int4", 0.3)])
def test_fewer_bits_are_near_as_before(tmp_path: Path, dtype: str, bound: float) -> None:
    before, after = write_tiny_safetensors(tmp_path), tmp_path / "latent"
    convert(before, after)
    old = model.load(before, dtype="float32")(IDS)
    assert relative_rms(model.load(after, dtype=dtype)(IDS), old) <= bound


def test_by_the_command_and_with_the_tokenizer(tmp_path: Path) -> None:
    before, after = write_tiny_safetensors(tmp_path), tmp_path / "latent"
    done = CliRunner().invoke(command, [str(before), str(after)])
    assert done.exit_code == 0, done.output
    assert "a row of 64 numbers" in done.output
    text = "def f(x):\n    return x\n"
    old, new = (model.load_tokenizer(path) for path in (before, after))
    assert new.encode(text) == old.encode(text) and new.end_ids == old.end_ids


def test_what_cannot_be_converted_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny_safetensors(tmp_path)
    assert run(["convert", str(tmp_path / "nowhere"), str(tmp_path / "new")]) == 2
    assert run(["convert", str(folder), str(folder)]) == 2
    (tmp_path / "empty").mkdir()
    assert run(["convert", str(tmp_path / "empty"), str(tmp_path / "new")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "is not a folder" in lines[0] and "is there already" in lines[1]
    assert "has no config.json" in lines[2]
    with pytest.raises(model.UnsupportedModel, match="'mla' cannot be expressed"):
        as_latent(CONFIG)
    with pytest.raises(model.UnsupportedModel, match="16 of it rotary"):
        as_latent(replace(CONFIG, attention="gqa"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"layers": "two"}, "Expected `int`"),
        ({"latent": {"width": 64}}, "missing required field"),
        ({"latent": None}, "rotary width 32 does not fit"),
        ({"heads": 0}, "heads is 0"),
        ({"layers": 3}, "missing tensor"),
    ],
)
def test_own_configurations_are_checked(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    before, after = write_tiny_safetensors(tmp_path), tmp_path / "latent"
    convert(before, after)
    config = json.loads((after / "config.json").read_text())
    config["viable"] |= change
    (after / "config.json").write_text(json.dumps(config))
    with pytest.raises(model.ModelError, match=words):
        model.load(after)
