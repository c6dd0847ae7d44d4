"""What all tests share: which of them run, in which order, and from which surroundings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

HELD_BACK = {"model": "--model-tests", "slow": "--slow", "fuzz": "--fuzz", "gpu": "--device cuda"}
"""Marker -> the option that lets its tests run."""

_counts = pytest.StashKey[dict[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("viable")
    group.addoption("--model-tests", action="store_true", help="run tests that need the default model's weights")
    group.addoption("--slow", action="store_true", help="run tests that take longer than ten seconds")
    group.addoption("--fuzz", action="store_true", help="run the long fuzzing of the validator")
    group.addoption("--device", default="cpu", choices=["cpu", "cuda"], help="where tensors of the tests live")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Hold back what was not asked for, and put the tests that start processes last."""
    asked = {
        "model": config.getoption("--model-tests"),
        "slow": config.getoption("--slow"),
        "fuzz": config.getoption("--fuzz"),
        "gpu": config.getoption("--device") == "cuda",
    }
    counts = config.stash.setdefault(_counts, dict.fromkeys(HELD_BACK, 0))
    kept: list[pytest.Item] = []
    held: list[pytest.Item] = []
    for item in items:
        missing = [marker for marker in HELD_BACK if not asked[marker] and item.get_closest_marker(marker)]
        for marker in missing[:1]:
            counts[marker] += 1
        (held if missing else kept).append(item)
    if held:
        config.hook.pytest_deselected(items=held)
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("e2e") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what did not run, so that a green line is not taken for more than it is."""
    for marker, count in config.stash.get(_counts, {}).items():
        if count:
            terminalreporter.write_line(f"not run: {count} marked {marker} ({HELD_BACK[marker]} runs them)")


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> str:
    """`cpu`, or what --device says."""
    return str(pytestconfig.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The settings of whoever runs the tests, and their histories, stay out of them; processes inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Processes inherit a SIGINT that is ignored, as it is for what a shell starts in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model's file, for tests marked `model`. It is looked for in the cache, and never fetched."""
    from assistant import store
    from assistant.settings import DEFAULT_MODEL

    return store.resolve(DEFAULT_MODEL, pull=False).path
