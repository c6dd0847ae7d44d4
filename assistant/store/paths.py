"""Where Viable keeps things on this system.

Each kind of file goes where the system expects it (platformdirs). `VIABLE_HOME` puts all of them under one folder
instead: for another disk, a shared cache, or a test.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from assistant.errors import UsageProblem

HOME = "VIABLE_HOME"
OFFLINE = "VIABLE_OFFLINE"

_YES = {"1", "true", "yes", "on"}
_NO = {"", "0", "false", "no", "off"}


def cache() -> Path:
    """What can be fetched again: models."""
    return _home() or platformdirs.user_cache_path("viable", appauthor=False)


def config() -> Path:
    """What the user writes: `models.toml` and settings."""
    return _home() or platformdirs.user_config_path("viable", appauthor=False)


def state() -> Path:
    """What piles up: histories and logs."""
    return _home() or platformdirs.user_state_path("viable", appauthor=False)


def models() -> Path:
    """One folder per model."""
    return cache() / "models"


def own_models() -> Path:
    """The user's additions to the catalogue; need not exist."""
    return config() / "models.toml"


def offline() -> bool:
    """Whether `VIABLE_OFFLINE` forbids the network."""
    value = os.environ.get(OFFLINE, "")
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise UsageProblem(f"{OFFLINE}={value}: neither yes (1) nor no (0)")


def _home() -> Path | None:
    value = os.environ.get(HOME)
    return Path(value).expanduser().absolute() if value else None
