"""Small models that cannot be trained further, by the doors that begin with one: one line that names what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.companions import FOLDER
from model.small import stored
from model.small.network import Network
from model.small.shape import TINY
from tests.assistant.fake import Shell
from tests.train.test_selection import code

Change = Callable[[Path], None]
ROUTER = "model.layers.0.mlp.gate.weight"
MATRIX = "model.layers.0.self_attn.o_proj.weight"


def config(**changes: Any) -> Change:
    """Other numbers of the shape; None takes one out."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        values = json.loads(path.read_text())
        values["small"] |= changes
        path.write_text(json.dumps(values))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def altered(folder: Path) -> None:
        found = load_file(folder / stored.WEIGHTS)
        change(found)
        save_file(found, folder / stored.WEIGHTS)

    return altered


def text(name: str, what: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_text(what)

    return change


def cut(folder: Path) -> None:
    path = folder / stored.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


CHANGES: dict[str, tuple[Change, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "a config that is no JSON": (text("config.json", "{"), "config.json"),
    "a config that is a list": (text("config.json", "[]"), "config.json"),
    "a config of something else": (text("config.json", '{"small": 3}'), "no model that was trained here"),
    "a width of text": (config(width="64"), "small.width is '64'"),
    "a width below nothing": (config(width=-64), "small.width is -64"),
    "a theta that is no number": (config(theta=float("nan")), "small.theta is nan"),
    "true layers": (config(layers=True), "small.layers is True"),
    "an attention that nobody knows": (config(attention="linear"), "linear attention"),
    "no groups of experts": (config(expert_groups=0), "there is none"),
    "a million layers": (config(layers=1_000_000), "1000000 layers"),
    "a vocabulary of millions": (config(vocabulary=10_000_000), "model.embed_tokens.weight"),
    "another width": (config(width=128), "model.embed_tokens.weight"),
    "a file that ends early": (cut, stored.WEIGHTS),
    "a file of text": (text(stored.WEIGHTS, "weights"), stored.WEIGHTS),
    "no router": (tensors(lambda found: found.pop(ROUTER)), f"no tensor {ROUTER}"),
    "codes without scales": (tensors(lambda found: found.pop(f"{MATRIX}.scales")), f"no tensor {MATRIX}"),
    "a tensor too many": (tensors(lambda found: found.update(more=torch.zeros(1))), "unknown tensors: more"),
    "codes that are numbers": (
        tensors(lambda found: found.update({f"{MATRIX}.codes": found[f"{MATRIX}.codes"].float()})),
        f"{MATRIX}.codes holds F32",
    ),
    "scales of another shape": (
        tensors(lambda found: found.update({f"{MATRIX}.scales": found[f"{MATRIX}.scales"][:1].clone()})),
        f"{MATRIX}.scales is",
    ),
    "NaN": (tensors(lambda found: found[ROUTER].fill_(torch.nan)), f"{ROUTER} holds NaN or infinity"),
    "scales without an end": (
        tensors(lambda found: found[f"{MATRIX}.scales"].fill_(torch.inf)),
        f"{MATRIX} holds NaN or infinity",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "m"
    stored.save(Network(TINY), folder, {})
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        if (FOLDER / "viable-small" / name).exists():
            shutil.copyfile(FOLDER / "viable-small" / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for i in range(24):
        (folder / f"m{i}.py").write_text(code(f"name{i}", i * 31))
    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_no_training_begins_with_it(viable: Shell, tmp_path: Path, good: Path, project: Path, name: str) -> None:
    change, words = CHANGES[name]
    folder = shutil.copytree(good, tmp_path / "m")
    change(folder)
    for door in (("finetune", project), ("train", "small", "--data", project)):
        ran = viable(*door, "--out", tmp_path / "out", "--from", folder, "--steps", "1", "--device", "cpu")
        assert (ran.code, ran.out) == (1, ""), ran.err
        assert words in ran.err and ran.err.count("\n") == 1, ran.err
        assert not (tmp_path / "out").exists()


def test_as_it_was_it_is_taken(good: Path) -> None:
    assert stored.load(good).shape == TINY
