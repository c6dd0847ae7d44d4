"""Tiny tensors are quickest on one thread. A site with two packages, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import model
from assistant import prompt
from model.companions import FOLDER
from model.train.corpus import Recipe
from tests.train.test_selection import code, distribution


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages, one of them held out."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("alpha", "networkx"):
        text = {f"{name}/m{i}.py": code(f"{name}{i}", i * 37 + len(name)) for i in range(8)}
        distribution(folder, name, "License-Expression: MIT", text)
    return folder


@pytest.fixture(scope="session")
def streams(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model.train.manifest import installed
    from model.train.streams import write

    shipped = model.load_tokenizer(FOLDER / "viable-small")
    folder = tmp_path_factory.mktemp("streams")
    recipe = Recipe(lambda *parts: prompt.build(*parts).ids, min(shipped.end_ids))
    manifest = write(folder, installed([str(site)]), shipped, recipe)
    assert [entry.package for entry in manifest.packages] == ["alpha"] and manifest.held_out == ("networkx 1.0",)
    return folder
