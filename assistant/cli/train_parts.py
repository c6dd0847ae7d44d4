"""What the commands of `viable train` for the default model share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from assistant.errors import UsageProblem

Command = TypeVar("Command", bound=Callable[..., Any])

END = "<|endoftext|>"
FIM, MTP = "fim-adapter.safetensors", "mtp.safetensors"

MODEL = click.option("--model", default="", metavar="NAME|PATH", help="Model [the default one].")
DEVICE = click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu or cuda.")
OUT = click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where it goes.")
DATA = click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, metavar="DIR",
                    help="What `viable train data` made.")  # fmt: skip
SEED = click.option("--seed", default=0, metavar="N", help="Decides everything that is drawn.")
STEPS = click.option("--steps", default=0, metavar="N", help="How long, in steps.")
SECONDS = click.option("--seconds", default=0.0, metavar="S", help="How long, in seconds of training alone.")
COMPILE = click.option("--compile/--no-compile", "compiled", default=False, help="Let PyTorch compile the blocks.")
FILES = click.option("--files", type=click.Path(path_type=Path, exists=True), metavar="FILE",
                     help="Measure with these files before and after: what `viable train held-out` drew.")  # fmt: skip
COUNT = click.option("--count", default=200, show_default=True, metavar="N", help="Files to measure with.")


def training(command: Command) -> Command:
    """The options of what trains something beside the default model, in this order."""
    for option in reversed((MODEL, DEVICE, DATA, OUT, SEED, STEPS, SECONDS, COMPILE, FILES, COUNT)):
        command = option(command)
    return command


def path_of(model: str) -> Path:
    """A path as it is; a name through the store."""
    if model and Path(model).exists():
        return Path(model)
    from assistant import store

    return store.resolve(model or store.DEFAULT, offline=True).path


def place(device: str) -> tuple[str, str]:
    """The device, and what weights are held in there: gradients need floating point."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, "bfloat16" if device == "cuda" else "float32"


def build(tokenizer: Any, prefix: str, suffix: str, budget: int) -> tuple[int, ...]:
    """A prompt as the product asks."""
    from assistant import prompt

    return prompt.build(tokenizer, prefix, suffix, budget).ids


def end_id(tokenizer: Any) -> int:
    """The end id that is taught: one that the product stops at."""
    return int(tokenizer.specials[END]) if END in tokenizer.specials else min(tokenizer.end_ids)


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_digest(folder: Path) -> str:
    """What the manifest says that was read."""
    return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sha256"])


def minutes(steps: int, seconds: float) -> float:
    """UsageProblem if the length is not said in one of both."""
    if (steps > 0) == (seconds > 0):
        raise UsageProblem("say how long: either --steps or --seconds")
    return seconds / 60
