"""`viable eval imports`: whether what other files say helps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from assistant.cli.options import Flags, held_out_options, session_options
from assistant.errors import ViableError

FILES = 100_000
TOKENS, MAX_TOKENS, CONTEXT = 256, 48, 1024
"""As in an editor without a GPU, but for the tokens of an answer, which is a line."""


@click.command()
@click.option("--gaps", default=120, show_default=True, help="Lines to write, twice each.")
@held_out_options
@session_options()
def imports(gaps: int, site: Path, draw: int, flags: Flags) -> None:
    """Whether --context-files helps: lines of held-out files that use a name which another of their files defines.

    Each is written without what the other files say and with --context-files tokens of it (256 if nothing is said),
    and counts as exact where it is the line that stood there. Ends with McNemar's test and what the first token costs.
    """
    from assistant.eval import beside, fim
    from assistant.progress import Progress
    from assistant.session import open_session

    found = beside.uses(fim.required(site, FILES, draw), site, gaps, draw)
    if not found:
        raise ViableError(f"no line of the held-out files in {site} uses a name imported from its own package")
    told = flags.context_files or TOKENS
    session = open_session(
        replace(flags, max_tokens=flags.max_tokens or MAX_TOKENS, context=flags.context or CONTEXT).settings()
    )
    with Progress(2 * len(found), "lines") as progress:
        compared = beside.compare(session, found, told, session.settings.max_tokens, progress.advance)
    click.echo(beside.table(compared))
    about = {"context_files": told, "draw": draw, "model": session.name, "device": session.device}
    click.echo(json.dumps({"imports": compared.record(), **about}))
