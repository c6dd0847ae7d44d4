"""What a user can set: defaults, then `viable.toml`, then flags."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from assistant.errors import UsageProblem
from validators.contracts import Unit

FILE_NAME = "viable.toml"
DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
SMALLEST_PROMPT = 8
"""Tokens that a prompt must have room for."""
MOST_TRIES = 64


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides what a session does."""

    model: str = "auto"
    """A name of the catalogue, or the path of a GGUF file or a safetensors folder. `auto` is the default model, or,
    where that is not here and cannot be fetched, the small one that comes with Viable."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    dtype: str = "auto"
    """`auto`, `float32`, `bfloat16`, `int8` or `int4`: how weights are held."""
    offline: bool = False
    """Never use the network."""
    context: int = 4096
    """Tokens of prompt and answer together; the model's own limit if that is lower."""
    context_files: int = 0
    """Tokens of the prompt, at most, for what other files of the project define: imported names and open files."""
    max_tokens: int = 256
    """Tokens to generate at most."""
    max_ms: int = 0
    """Milliseconds to generate at most; 0 means no limit."""
    temperature: float = 0.0
    """0 takes the best token; above 0 samples."""
    top_p: float = 1.0
    """Nucleus to sample from."""
    seed: int = 0
    """Seed of the sampling."""
    tries: int = 1
    """Answers that are written, of which the best is given. All behind the first one are sampled."""
    block: int = 3
    """Tokens of a block: one from the model's own row, the others drafted by trained modules. Repetition goes on from
    there. 1 decodes token by token."""
    draft: str = "auto"
    """Who drafts: `auto` repetition and the modules trained for the model, `lookup` repetition alone, or `none`."""
    accept: str = "verified"
    """Which drafted tokens are kept: `verified` those that the model would have chosen, `syntax` all viable ones."""
    unit: str = "none"
    """What to write at most: an `expression`, `line`, `statement`, `block` or `function`; `none` fills the gap."""
    adapter: bool = True
    """Fill gaps with the adapter that was trained for the model, where there is one."""

    def __post_init__(self) -> None:
        for field, lowest in (
            ("context", 16),
            ("context_files", 0),
            ("max_tokens", 1),
            ("max_ms", 0),
            ("tries", 1),
            ("block", 1),
            ("temperature", 0),
        ):
            if getattr(self, field) < lowest:
                raise UsageProblem(f"{field} must be at least {lowest}, not {getattr(self, field)}")
        if self.tries > MOST_TRIES:
            raise UsageProblem(f"tries must be at most {MOST_TRIES}, not {self.tries}")
        if not math.isfinite(self.temperature):
            raise UsageProblem(f"temperature must be a finite number, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UsageProblem(f"top_p must be above 0 and at most 1, not {self.top_p}")
        for field, choices in (
            ("device", ("auto", "cpu", "cuda")),
            ("dtype", ("auto", "float32", "bfloat16", "int8", "int4")),
            ("draft", ("auto", "lookup", "none")),
            ("accept", ("verified", "syntax")),
            ("unit", ("none", *get_args(Unit))),
        ):
            if getattr(self, field) not in choices:
                raise UsageProblem(f"{field} must be one of {', '.join(choices)}, not {getattr(self, field)!r}")

    def replaced(self, **changes: Any) -> Settings:
        """A copy with those changes that are not None."""
        return msgspec.structs.replace(self, **{name: value for name, value in changes.items() if value is not None})

    def check_room(self, capacity: int | None = None) -> None:
        """UsageProblem if the answer alone would fill `capacity` tokens, by default all of the context asked for."""
        capacity = self.context if capacity is None else capacity
        if self.max_tokens + SMALLEST_PROMPT > capacity:
            raise UsageProblem(f"max_tokens {self.max_tokens} leaves no room for a prompt in a context of {capacity}")


def load_settings(start: Path, defaults: Mapping[str, Any] = MappingProxyType({}), **flags: Any) -> Settings:
    """Defaults, then the user's file, then the nearest `viable.toml` in `start` or above it, then flags not None.

    `defaults` are those of a front end that has its own.
    """
    from assistant.store import paths  # an editor has been answered before settings are read

    values: dict[str, Any] = dict(defaults)
    for path in (paths.config() / FILE_NAME, *_nearest(start)):
        values |= _read(path)
    values |= {name: value for name, value in flags.items() if value is not None}
    return _convert(values, "")


def _nearest(start: Path) -> list[Path]:
    folder = start.resolve()
    return next(([parent / FILE_NAME] for parent in (folder, *folder.parents) if (parent / FILE_NAME).is_file()), [])


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path}: {error}") from None
    _convert(values, str(path))
    return values


def _convert(values: dict[str, Any], where: str) -> Settings:
    """`where` the values come from is said in errors; empty for the command line."""
    try:
        return msgspec.convert(values, Settings)
    except (msgspec.ValidationError, UsageProblem) as error:
        raise UsageProblem(f"{where}: {error}" if where else str(error)) from None
