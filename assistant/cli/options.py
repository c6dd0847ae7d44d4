"""The options that the commands share: which model, how much text, how it is chosen.

Each is None where it is not given, so that `viable.toml` and the defaults have their say. A command adds them with
`@session_options()` and receives them as one `Flags` in its argument `flags`.
"""

from __future__ import annotations

import functools
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from assistant.settings import Settings, load_settings


@dataclass(frozen=True)
class Flags:
    """What the command line says about the session. The fields are those of `Settings`."""

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    offline: bool | None = None
    context: int | None = None
    context_files: int | None = None
    max_tokens: int | None = None
    max_ms: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    tries: int | None = None
    block: int | None = None
    draft: str | None = None
    accept: str | None = None
    unit: str | None = None
    adapter: bool | None = None

    def settings(self, start: Path | None = None) -> Settings:
        """Defaults, `viable.toml` of the user and of `start` (the working folder, if None), then these."""
        return load_settings(start or Path.cwd(), **asdict(self))


_DEFAULT = Settings()


class _Option(NamedTuple):
    """One that takes a value, and what its help says."""

    name: str
    metavar: str
    text: str
    kind: type = str

    def added(self, function: Callable[..., Any], defaults: Mapping[str, str]) -> Callable[..., Any]:
        field = self.name.replace("-", "_")
        default = defaults.get(field, getattr(_DEFAULT, field))
        add = click.option(f"--{self.name}", type=self.kind, metavar=self.metavar, help=f"{self.text} [{default}]")
        return add(function)


class _Flag(NamedTuple):
    """One that takes none."""

    names: str
    text: str

    def added(self, function: Callable[..., Any], defaults: Mapping[str, str]) -> Callable[..., Any]:
        return click.option(self.names, is_flag=True, default=None, help=self.text)(function)


_OPTIONS = (
    _Option("model", "NAME|PATH", "Model name, GGUF file or folder with safetensors."),
    _Option("device", "DEVICE", "auto, cpu or cuda."),
    _Option("dtype", "TYPE", "How weights are held: auto, float32, bfloat16, int8 or int4."),
    _Flag("--offline", "Never use the network."),
    _Option("context", "TOKENS", "Prompt and answer together.", int),
    _Option("context-files", "TOKENS", "Of those, at most, for what imported names and open files define.", int),
    _Option("max-tokens", "TOKENS", "Generate at most this much.", int),
    _Option("max-ms", "MS", "Stop after this time; 0 is no limit.", int),
    _Option("temperature", "T", "0 takes the best token, above 0 samples.", float),
    _Option("top-p", "P", "Sample from this share of the probability.", float),
    _Option("seed", "N", "Seed of the sampling.", int),
    _Option("tries", "N", "Write N answers, give the best: more often right, N times the wait after the prompt.", int),
    _Option("block", "TOKENS", "Tokens of a block, drafts and one more; 1 decodes singly.", int),
    _Option("draft", "WHO", "Who drafts: auto, lookup or none."),
    _Option("accept", "RULE", "Keep verified drafts, or (faster, other text) any of right syntax: verified, syntax."),
    _Option("unit", "UNIT", "End with this unit: expression, line, statement, block or function; none: the gap."),
    _Flag("--adapter/--no-adapter", "Fill gaps with the adapter made for the model."),
)
_NAMES = tuple(Flags.__dataclass_fields__)


def session_options(**defaults: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options; the function gets them as `flags`.

    `defaults` is what the help says of those options that a command has defaults of its own for.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def gathered(*args: Any, **values: Any) -> Any:
            return function(*args, flags=Flags(**{name: values.pop(name) for name in _NAMES}), **values)

        command: Callable[..., Any] = gathered
        for option in reversed(_OPTIONS):
            command = option.added(command, defaults)
        return command

    return add


_HELD_OUT = (
    click.option(
        "--site",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=sysconfig.get_path("purelib"),
        help="Where packages are installed. [this environment's]",
    ),
    click.option("--draw", default=0, show_default=True, help="Seed of the files and gaps."),
)


def held_out_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which held-out files are read; the function gets them as `site` and `draw`."""
    for option in reversed(_HELD_OUT):
        function = option(function)
    return function
