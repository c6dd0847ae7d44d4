"""`viable eval`: how good the answers are."""

from __future__ import annotations

import json
import sysconfig
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assistant.cli.options import Flags, session_options
from assistant.errors import ViableError

if TYPE_CHECKING:
    from assistant.eval.served import Served


@click.group()
def command() -> None:
    """Measure how good the answers are. Each command prints a table and ends in one line of JSON."""


@command.command()
@click.option("--files", default=20, show_default=True, help="Held-out files to cut gaps from, three each.")
@click.option(
    "--site",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=sysconfig.get_path("purelib"),
    help="Where packages are installed. [this environment's]",
)
@click.option("--draw", default=0, show_default=True, help="Seed of the files and gaps.")
@session_options
def fim(files: int, site: Path, draw: int, flags: Flags) -> None:
    """Fill gaps of real files that no part of this project was trained on.

    One gap each at the end of a line, of one to eight whole lines, and of any 20 to 300 characters. Files are those of
    the held-out packages that are installed, between 1.5 and 6 kB.
    """
    from assistant.eval import fim as evaluation
    from assistant.eval.served import serve, table
    from assistant.progress import Progress
    from assistant.session import open_session

    found = evaluation.collect(site, files, draw)
    if not found:
        raise ViableError(f"no held-out package is installed in {site}; `pip install networkx` brings one")
    cuts = evaluation.gaps(found, draw)
    settings = flags.settings()
    session = open_session(settings)
    with Progress(len(cuts), "gaps") as progress:
        results, _ = serve(session, cuts, settings.max_tokens, progress.advance)
    click.echo(table(results))
    packages = sorted({file.package for file in found})
    click.echo(_line(results, session.name, session.device, len(found), packages))


def _line(results: list[Served], model: str, device: str, files: int, packages: list[str]) -> str:
    return json.dumps(
        {
            "fim": [asdict(result) for result in results],
            "files": files,
            "packages": packages,
            "model": model,
            "device": device,
        }
    )
