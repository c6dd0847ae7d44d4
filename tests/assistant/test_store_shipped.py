"""The model that comes with Viable: by its name, and where nothing else is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assistant.cli import models
from assistant.errors import ViableError
from assistant.store import AUTO, DEFAULT, SMALL, ModelRef, lookup, resolve
from assistant.store.shipped import shipped
from tests.assistant.store_hub import write_own_models
from tests.assistant.test_store_pull import Notes, home

__all__ = ["home"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / SMALL).mkdir()
    (tmp_path / SMALL / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(lookup, "shipped", lambda: shipped(tmp_path))
    return tmp_path / SMALL


def test_its_name_needs_neither_cache_nor_network(home: Path, folder: Path) -> None:
    assert resolve(SMALL, offline=True, pull=False) == ModelRef(folder, SMALL, None)


def test_it_steps_in_where_the_network_is_off(home: Path, folder: Path) -> None:
    notes = Notes()
    assert resolve(AUTO, offline=True, report=notes) == ModelRef(folder, SMALL, None)
    assert len(notes.lines) == 1 and "going on with viable-small" in notes.lines[0]


def test_what_is_asked_for_by_name_is_never_replaced(home: Path, folder: Path) -> None:
    with pytest.raises(ViableError, match="fetching is off"):
        resolve(DEFAULT, offline=True, report=Notes())


def test_it_is_here_where_nothing_may_be_fetched(home: Path, folder: Path) -> None:
    assert resolve(AUTO, pull=False, report=Notes()).name == SMALL
    with pytest.raises(ViableError, match="not here yet"):
        resolve(DEFAULT, pull=False)


def test_an_entry_of_one_s_own_goes_first(home: Path, folder: Path) -> None:
    write_own_models(home, "http://127.0.0.1:9", name=SMALL)
    with pytest.raises(ViableError, match="fetching is off"):
        resolve(SMALL, offline=True, report=Notes())


def test_without_it_automatic_is_the_default_model(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "shipped", lambda: shipped(tmp_path))
    with pytest.raises(ViableError, match=DEFAULT):
        resolve(AUTO, offline=True, report=Notes())


def test_it_is_listed_with_its_folder(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "shipped", lambda: shipped(folder.parent))
    runner = CliRunner()
    rows = json.loads(runner.invoke(models.command, ["list", "--json"]).output)
    assert rows[-1]["name"] == SMALL and rows[-1]["path"] == str(folder) and not rows[-1]["default"]
    assert str(folder) in runner.invoke(models.command, ["list"]).output
    assert runner.invoke(models.command, ["path", SMALL]).output.strip() == str(folder)
