"""`viable lsp`: serve completions to an editor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from assistant.cli.options import Flags, session_options
from assistant.opening import gpu_problem, open_session
from assistant.settings import Settings, load_settings

if TYPE_CHECKING:
    from assistant.lsp.options import Options
    from assistant.lsp.progress import Report
    from assistant.session import Session

NEAR = 1024
"""Tokens of prompt and answer together where nothing is said and a processor computes: it reads them in two seconds."""
FORMAT = "viable: %(levelname)s: %(message)s"
LEVELS = ("debug", "info", "warning", "error")


@click.command()
@session_options(context=f"{NEAR} without a GPU", max_tokens="64", max_ms="3000")
@click.option("--stdio", is_flag=True, help="Accepted for editors that pass it; there is no other way.")
@click.option("--log-level", type=click.Choice(LEVELS), default="warning", help="What is written to stderr. [warning]")
def command(flags: Flags, stdio: bool, log_level: str) -> int:
    """Serve completions to an editor over stdin and stdout (Language Server Protocol 3.18).

    \b
    textDocument/inlineCompletion    ghost text; several candidates where the user asks
    textDocument/completion          the same in the editor's list

    The model loads while the editor goes on. Settings come from the flags, then from the editor
    (initializationOptions, section "viable" of the configuration), then from viable.toml. A suggestion
    has 64 tokens and takes 3000 ms at most, unless --max-tokens, --max-ms or the editor's maxTokens,
    maxMs say otherwise. Without a GPU the model reads 1024 tokens around the cursor, unless --context
    or a setting says otherwise. Ready-made set-ups are in examples/editors.
    """
    Settings().replaced(**asdict(flags))  # what makes no sense is said at once, not when the session is opened
    from assistant.lsp import serve

    stderr = logging.StreamHandler()
    stderr.setLevel(log_level.upper())
    stderr.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=log_level.upper(), handlers=[stderr])
    # The editor's log gets what is worth knowing, however little of it is wanted on stderr.
    logging.getLogger("assistant").setLevel(logging.DEBUG if log_level == "debug" else logging.INFO)
    return serve(
        lambda options, folder, report: lambda: _open(settings_for(flags, options, folder, _defaults()), report),
        flags.max_tokens,
        flags.max_ms,
    )


def _defaults() -> dict[str, int]:
    """In the worker's thread, as this imports torch."""
    return {"context": NEAR} if gpu_problem() else {}


def settings_for(
    flags: Flags, options: Options, folder: Path, defaults: Mapping[str, int] = MappingProxyType({})
) -> Settings:
    """Defaults, `viable.toml`, what the editor says, what the command line says: the later ones win."""
    values = options.session | {name: value for name, value in asdict(flags).items() if value is not None}
    return load_settings(folder, defaults, **values)


def _open(settings: Settings, report: Report) -> Session:
    """In the worker's thread: importing torch takes longer than an editor waits for `initialize`."""
    from assistant import store
    from assistant.lsp.progress import EditorReporter

    store.resolve(settings.model, offline=settings.offline, report=EditorReporter(report))
    return open_session(settings)
