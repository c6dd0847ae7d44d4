"""SHA-256 of a file or of a stretch of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from assistant.store.report import Meter, Silent

_BLOCK = 1 << 20


def sha256_of(path: Path, start: int = 0, count: int | None = None, meter: Meter | None = None) -> str:
    """Hex digest of `count` bytes from `start`, or of all that follow."""
    meter = meter or Silent()
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_BLOCK if count is None else min(_BLOCK, count - done)):
            digest.update(block)
            done += len(block)
            meter.at(done)
    return digest.hexdigest()
