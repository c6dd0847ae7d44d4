"""What a checkpoint's files have to be before anything in them is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import BadModelFile


def ordinary(path: Path) -> Path:
    """The path, unless a pipe or a device is there, from which opening or reading might never come back."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadModelFile(f"{path.name} is no ordinary file")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; BadModelFile if it holds none."""
    try:
        values = json.loads(ordinary(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path.name}: {error}") from None
    if not isinstance(values, dict):
        raise BadModelFile(f"{path.name} does not hold an object")
    return values
