"""What models are known: the built-in ones and the user's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from assistant.errors import UsageProblem
from assistant.store import catalogue, paths
from assistant.store.catalogue import BUILT_IN, DEFAULT, find, known
from assistant.store.web import Hub, Url
from assistant.store.wheels import Wheels
from tests.assistant.store_hub import write_own_models


def test_the_default_model_is_the_official_file() -> None:
    model = find(DEFAULT, {model.name: model for model in BUILT_IN})
    assert model.size == 491_400_064
    assert model.sha256 == "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
    assert model.licence == "Apache-2.0"
    assert [type(source) for source in model.sources] == [Hub, Wheels]


@pytest.mark.parametrize("model", BUILT_IN, ids=lambda model: model.name)
def test_the_pieces_add_up(model: catalogue.Model) -> None:
    for source in model.sources:
        if isinstance(source, Wheels):
            assert sum(piece.size for piece in source.pieces) == model.size
            hashes = [piece.sha256 for piece in source.pieces] + [piece.wheel_sha256 for piece in source.pieces]
            assert len(set(hashes)) == len(hashes)
            assert {len(digest) for digest in hashes} == {64}


@pytest.mark.parametrize("model", BUILT_IN, ids=lambda model: model.name)
def test_the_licence_text_comes_along(model: catalogue.Model) -> None:
    text = resources.files("assistant.store") / "licences" / f"{model.licence}.txt"
    assert "Apache License" in text.read_text(encoding="utf-8")


def test_without_a_file_only_the_built_in_are_known(tmp_path: Path) -> None:
    assert list(known(tmp_path / "models.toml").values()) == list(BUILT_IN)


def test_own_models_are_added(tmp_path: Path) -> None:
    write_own_models(tmp_path, "https://example.org/x", name="Mine-1.5")
    write_own_models(tmp_path, "https://example.org/x", name="b", file="other.gguf", licence="MIT", credit="Me.")
    models = known(tmp_path / "models.toml")
    assert list(models) == [DEFAULT, "Mine-1.5", "b"]
    assert models["Mine-1.5"].file == "Mine-1.5.gguf"
    assert models["Mine-1.5"].sources == (Url("https://example.org/x/Mine-1.5.gguf"),)
    assert (models["b"].file, models["b"].licence, models["b"].credit) == ("other.gguf", "MIT", "Me.")


def test_an_own_model_replaces_a_built_in_one(tmp_path: Path) -> None:
    write_own_models(tmp_path, "https://mirror.example", name=DEFAULT)
    models = known(tmp_path / "models.toml")
    assert list(models) == [DEFAULT]
    assert models[DEFAULT].sources == (Url(f"https://mirror.example/{DEFAULT}.gguf"),)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "../../etc"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"name": "dot."}, "name"),
        ({"name": ""}, "name"),
        ({"file": "../x"}, "file"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://nothing"}, "url"),
        ({"size": 0}, "size"),
        ({"size": -5}, "size"),
        ({"size": "12"}, "size"),
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": "A" * 64}, "sha256"),
        ({"revision": "main"}, "revision"),
    ],
)
def test_an_entry_that_makes_no_sense_is_named(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    write_own_models(tmp_path, "https://example.org", **change)
    with pytest.raises(UsageProblem) as caught:
        known(tmp_path / "models.toml")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'models.toml'}: ")
    assert complaint in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"[[model]\n", b"model = 3\n", b"[model]\nname='x'\n", b"\xff\xfe", b"\x00"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "models.toml").write_bytes(content)
    with pytest.raises(UsageProblem) as caught:
        known(tmp_path / "models.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'models.toml'}: ")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[[model]]\nname = "x"\nurl = "https://a/b"\nsize = 3\n')
    with pytest.raises(UsageProblem, match="sha256"):
        known(tmp_path / "models.toml")


def test_a_name_twice_is_an_error(tmp_path: Path) -> None:
    write_own_models(tmp_path, "https://example.org")
    write_own_models(tmp_path, "https://example.com")
    with pytest.raises(UsageProblem, match="model small is there twice"):
        known(tmp_path / "models.toml")


@pytest.mark.parametrize(
    "name", ["qwen", "Qwen2.5-Coder-0.5B", "qwen2.5-coder-0.5b-instuct", "QWEN2.5-CODER-0.5B-INSTRUCT"]
)
def test_an_unknown_name_leads_to_a_close_one(name: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        find(name, known(Path("/nowhere")))
    assert str(caught.value) == f"unknown model {name!r}; did you mean {DEFAULT}?"


@pytest.mark.parametrize("name", ["gpt", "", "zzzzzzzzz"])
def test_a_name_like_none_leads_to_the_list(name: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        find(name, known(Path("/nowhere")))
    assert str(caught.value) == f"unknown model {name!r}; `viable models list` shows those that are known"


def test_home_holds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIABLE_HOME", str(tmp_path))
    assert paths.cache() == paths.config() == paths.state() == tmp_path
    assert paths.models() == tmp_path / "models"
    assert paths.own_models() == tmp_path / "models.toml"


def test_home_may_be_relative_or_in_the_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIABLE_HOME", "here")
    assert paths.cache() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VIABLE_HOME", "~/there")
    assert paths.cache() == tmp_path / "there"


@pytest.mark.parametrize("home", [None, ""])
def test_without_home_the_system_decides(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    monkeypatch.delenv("VIABLE_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("VIABLE_HOME", home)
    assert paths.cache() == platformdirs.user_cache_path("viable", appauthor=False)
    assert paths.config() == platformdirs.user_config_path("viable", appauthor=False)
    assert paths.state() == platformdirs.user_state_path("viable", appauthor=False)


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("", False), ("No", False)]
)
def test_offline_by_environment(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("VIABLE_OFFLINE", value)
    assert paths.offline() is expected


def test_offline_must_be_yes_or_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIABLE_OFFLINE", "maybe")
    with pytest.raises(UsageProblem, match="VIABLE_OFFLINE=maybe"):
        paths.offline()
