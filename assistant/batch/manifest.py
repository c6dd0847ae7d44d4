"""What a run was: written beside its output, so that the rows can be traced to what made them."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from assistant import __version__
from assistant.changes import write_whole
from assistant.errors import ViableError
from assistant.settings import Settings


class Manifest(msgspec.Struct, kw_only=True):
    """The fields of `OUT.manifest.json`."""

    viable: str = __version__
    python: str = platform.python_version()
    platform: str = f"{sys.platform} {platform.machine()}"
    inputs: list[str]
    output: str
    model: str
    model_hash: str
    companions: dict[str, str] = {}
    """The adapter and drafting modules trained for the model: file names and their sha256."""
    settings: Settings
    samples: int
    shard: str
    limit: int | None
    started: str
    """Of the last run; times are UTC, ISO 8601."""
    finished: str | None = None
    """None while the last run is at work, or if it was stopped."""
    rows: int
    """Lines that the output has when all is done, of this shard and limit."""
    answered: int | None = None
    failed: int | None = None
    tokens: int | None = None
    """Of the last run, as are the next two."""
    seconds: float | None = None
    avoided: int | None = None

    def write(self, output: Path) -> None:
        """Put it beside `output`, whole or not at all. Raises ViableError, which names the file."""
        path = beside(output)
        try:
            write_whole(path, msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        except OSError as error:
            raise ViableError(f"{path}: not written: {(error.strerror or str(error)).lower()}") from None


def beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.manifest.json")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
