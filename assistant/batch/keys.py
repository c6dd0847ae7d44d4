"""What decides a row's answer, as a hash: rows with the same key need not be answered twice."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from assistant.batch.rows import Task
from assistant.settings import Settings
from assistant.store import ModelRef
from assistant.store.hashing import sha256_of

NOT_DECIDING = ("model", "device", "offline")
"""Settings that do not decide what is generated: the model has a hash, and a run may be finished on another device."""
PARAMETERS = tuple(name for name in Settings.__struct_fields__ if name not in NOT_DECIDING)
"""All other settings, new ones too: rather one answer made again than one that is not what was asked for."""

WINDOW = 1 << 16
WINDOWS = 256
"""A model file is known by its size and at most this many windows of this many bytes, evenly spread."""


@dataclass(frozen=True)
class Job:
    """What becomes one line of the output."""

    task: Task
    samples: tuple[int, ...]
    """Which answers to the task: one, or for an OpenAI request all of its choices."""
    key: str

    def seed(self, sample: int, settings: Settings) -> int:
        """Of one answer, from 0 to 2³² - 1: independent of the order of rows and of what else is in the input."""
        chosen = self.task.changes.get("seed", settings.seed)
        return int(_digest(chosen, self.task.identity, sample)[:8], 16)


def jobs(tasks: Iterable[Task], samples: int, settings: Settings, weights: Sequence[str]) -> Iterator[Job]:
    """All jobs in the order of the output. Rows that are equal in everything are numbered by their occurrence.

    weights: hashes of all that is loaded, the model's first.
    """
    seen: Counter[str] = Counter()
    for task in tasks:
        parameters = {name: getattr(settings, name) for name in PARAMETERS} | task.changes
        text = (task.gap.left, task.gap.right) if task.gap else None
        if task.choices is None:
            groups: Iterable[tuple[int, ...]] = ((sample,) for sample in range(samples))
        else:
            groups = (tuple(range(task.choices)),)
        for group in groups:
            base = _digest(task.kind, task.identity, text, weights, task.model, parameters, group)
            occurrence = seen[base]
            seen[base] += 1
            yield Job(task, group, _digest(base, occurrence) if occurrence else base)


def model_hash(found: ModelRef) -> str:
    """The sha256 of the catalogue, or for a user's own model that of its files' names, sizes and windows."""
    if found.sha256:
        return found.sha256
    files = [found.path] if found.path.is_file() else sorted(path for path in found.path.iterdir() if path.is_file())
    return _digest(*((path.name, path.stat().st_size, _windows(path)) for path in files))


def companions(found: ModelRef, folder: Path | None = None) -> dict[str, str]:
    """The sha256 of what comes with the project and was trained for this model, by the file's name.

    Read from the files' headers: a finished run must not wait for what could load them.
    """
    made = {}
    for path in sorted((folder or _companions_folder()).glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        about = json.loads(header.get("__metadata__", {}).get("about", "{}"))
        if found.sha256 and about.get("base") == found.sha256:
            made[path.name] = sha256_of(path)
    return made


def _companions_folder() -> Path:
    """Found without importing the package, which brings torch."""
    spec = importlib.util.find_spec("model")
    assert spec and spec.origin
    return Path(spec.origin).parent / "weights"


def _windows(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for i in range(min(WINDOWS, -(-size // WINDOW))):
            file.seek(i * WINDOW if size <= WINDOW * WINDOWS else i * (size - WINDOW) // (WINDOWS - 1))
            digest.update(file.read(WINDOW))
    return digest.hexdigest()


def _digest(*values: object) -> str:
    """32 hexadecimal digits over any JSON values."""
    return hashlib.blake2b(msgspec.json.encode(values, order="sorted"), digest_size=16).hexdigest()
