"""From what a user calls a model to the file or folder that holds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assistant.errors import UsageProblem
from assistant.store.catalogue import DEFAULT, Model, find, known
from assistant.store.hashing import sha256_of
from assistant.store.pull import NotFetched
from assistant.store.pull import pull as fetch
from assistant.store.report import Console, Reporter
from assistant.store.shipped import AUTO, SMALL, shipped
from assistant.store.slot import Slot, State


@dataclass(frozen=True)
class ModelRef:
    """A model that can be loaded."""

    path: Path
    """A GGUF file, or a folder with safetensors and their configuration."""
    name: str
    sha256: str | None
    """Of the file, where it is one of the catalogue, under whatever path; None for the user's own model."""


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    offline: bool = False,
    pull: bool = True,
    report: Reporter | None = None,
) -> ModelRef:
    """What to load for `--model`: a name from the catalogue, fetched if need be, or a path that exists.

    A name goes before a path; `./name` means the path. `auto` is the default model; where that is not here and cannot
    be fetched, it is the one that comes with Viable, and that is said. `pull=False` takes what is in the cache and
    fetches nothing. Progress goes to `report`, by default stderr. Raises UsageProblem for an unknown name or a missing
    path and ViableError for a model that is not there and cannot or may not be fetched.
    """
    text = os.fspath(name_or_path)
    models = known()
    ours = shipped()
    if text == AUTO:
        return _automatic(ours, offline, pull, report or Console())
    if text in ours and text not in models:
        return ModelRef(ours[text], text, None)
    path = Path(text).expanduser()
    if text not in models and text and path.exists():
        return ModelRef(path, path.stem if path.is_file() else path.resolve().name, _known_hash(path, models))
    model = _named(text, models)
    if not pull and Slot(model).state() in (State.ABSENT, State.PARTIAL):
        raise NotFetched(f"{model.name} is not here yet; `viable models pull {model.name}` fetches it")
    return ModelRef(fetch(model, offline=offline or not pull, report=report), model.name, model.sha256)


def check(name_or_path: str | os.PathLike[str]) -> None:
    """Raise the UsageProblem that `resolve` would raise for a name or path that is none. Reads and fetches nothing."""
    text = os.fspath(name_or_path)
    models = known()
    if text != AUTO and text not in shipped() and not (text and Path(text).expanduser().exists()):
        _named(text, models)


def _named(text: str, models: Mapping[str, Model]) -> Model:
    """The model of the catalogue that has this name."""
    if text not in models and _looks_like_path(text):
        raise UsageProblem(f"no such model file or folder: {text}")
    return find(text, models)


def _automatic(ours: Mapping[str, Path], offline: bool, pull: bool, report: Reporter) -> ModelRef:
    """The default model; without it, and without a way to it, the small one."""
    try:
        return resolve(DEFAULT, offline=offline, pull=pull, report=report)
    except NotFetched as failure:
        if SMALL not in ours:
            raise
        report.note(f"{failure}; going on with {SMALL}, which comes with Viable and knows less")
        return ModelRef(ours[SMALL], SMALL, None)


def _known_hash(path: Path, models: Mapping[str, Model]) -> str | None:
    """The hash of a file that is a model of the catalogue; only files of such a size are read for it."""
    if not path.is_file() or path.stat().st_size not in {model.size for model in models.values()}:
        return None
    digest = sha256_of(path)
    return digest if digest in {model.sha256 for model in models.values()} else None


def _looks_like_path(text: str) -> bool:
    separators = {"/", os.sep}
    return any(sign in text for sign in separators) or text.startswith(("~", ".")) or text.endswith(".gguf")
