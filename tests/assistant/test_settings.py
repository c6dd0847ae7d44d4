"""Defaults, files and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.options import Flags
from assistant.errors import UsageProblem
from assistant.settings import FILE_NAME, Settings, load_settings


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own settings are, in a home of Viable's own."""
    monkeypatch.setenv("VIABLE_HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / FILE_NAME
    path.parent.mkdir()
    return path


def test_without_a_home_of_its_own_the_system_says_where_they_are(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIABLE_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_config_path", lambda name, appauthor: tmp_path / "config" / name)
    path = tmp_path / "config" / "viable" / FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_text("seed = 5\n")
    assert load_settings(project) == Settings(seed=5)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "deep" / "er").mkdir(parents=True)
    return folder


def test_flags_go_before_the_project_before_the_user_before_defaults(user_file: Path, project: Path) -> None:
    assert load_settings(project) == Settings()
    user_file.write_text("max_tokens = 1\nseed = 1\nblock = 1\n")
    (project / FILE_NAME).write_text("max_tokens = 2\nseed = 2\n")
    settings = load_settings(project / "deep" / "er", max_tokens=3, seed=None)
    assert (settings.max_tokens, settings.seed, settings.block) == (3, 2, 1)


def test_the_nearest_file_counts_alone(user_file: Path, project: Path) -> None:
    (project / FILE_NAME).write_text("seed = 1\nblock = 1\n")
    (project / "deep" / FILE_NAME).write_text("seed = 2\n")
    assert load_settings(project / "deep" / "er") == Settings(seed=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_tokens = 0", "max_tokens must be at least 1, not 0"),
        ("max_tokens = 'many'", "Expected `int`, got `str`"),
        ("tokens = 3", "unknown field `tokens`"),
        ("max_tokens = ", "Invalid value"),
        ("device = 'tpu'", "device must be one of auto, cpu, cuda, not 'tpu'"),
        ("top_p = 0.0", "top_p must be above 0 and at most 1, not 0.0"),
        ("temperature = nan", "temperature must be a finite number, not nan"),
        ("temperature = inf", "temperature must be a finite number, not inf"),
        ("tries = 65", "tries must be at most 64, not 65"),
        ("context = 15", "context must be at least 16, not 15"),
    ],
)
def test_what_makes_no_sense_in_a_file_is_told_with_its_name(
    user_file: Path, project: Path, text: str, told: str
) -> None:
    for path in (user_file, project / FILE_NAME):
        path.write_text(text)
        with pytest.raises(UsageProblem) as caught:
            load_settings(project)
        assert str(caught.value).startswith(f"{path}: ")
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
        path.unlink()


def test_a_file_that_is_not_utf_8_is_told_with_its_name(user_file: Path, project: Path) -> None:
    (project / FILE_NAME).write_bytes(b"model = '\xff'")
    with pytest.raises(UsageProblem, match=FILE_NAME):
        load_settings(project)


def test_flags_that_make_no_sense_are_misuse(user_file: Path, project: Path) -> None:
    with pytest.raises(UsageProblem, match="block must be at least 1, not 0"):
        Flags(block=0).settings(project)


def test_a_whole_number_is_a_number(user_file: Path, project: Path) -> None:
    (project / FILE_NAME).write_text("temperature = 1\n")
    assert load_settings(project).temperature == 1.0


def test_changes_are_checked_too_and_none_is_no_change() -> None:
    settings = Settings(seed=3)
    assert settings.replaced(seed=None, block=5) == Settings(seed=3, block=5)
    with pytest.raises(UsageProblem, match="temperature"):
        settings.replaced(temperature=-1.0)


def test_every_setting_of_the_session_is_an_option() -> None:
    assert set(Flags.__dataclass_fields__) == set(Settings.__struct_fields__)
