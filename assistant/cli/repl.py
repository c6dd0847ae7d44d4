"""`viable repl`, and `viable` without a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from assistant.cli.options import Flags, session_options
from assistant.errors import UsageProblem
from assistant.repl.options import STOPS, Options
from assistant.settings import Settings

HISTORY = "repl_history"
SHOWN = 12
"""Lines of a loaded file's end."""


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--vi", is_flag=True, help="Vi keys instead of Emacs keys.")
@click.option(
    "--theme", metavar="NAME", default="terminal", help="Colours: terminal, or a style of Pygments. [terminal]"
)
@click.option("--stop", type=click.Choice(STOPS), default="unit", help="Stop at a unit's end, or where the model does.")
@click.option("--no-ghost", is_flag=True, help="No suggestions while typing.")
@session_options()
def command(file: Path | None, vi: bool, theme: str, stop: str, no_ghost: bool, flags: Flags) -> None:
    """Write a program with the model, in the terminal.

    \b
    viable                                   begin a program
    viable --model NAME                      with another model; all options may stand there
    viable repl app.py                       go on with a file
    viable repl --vi --temperature 0.4       vi keys, some chance
    echo 'def is_prime(n):' | viable         without a terminal: continue standard input

    Type Python and press Enter: the model goes on. /help lists the keys and commands.

    Without a terminal the program is read from standard input and written, continued, to standard
    output, as plain text: together it parses, or nothing is written and the exit code is 1.
    """
    from assistant import store

    settings = flags.settings()
    store.check(settings.model)
    settings.check_room()
    options = Options(stop="unit" if stop == "unit" else "model", ghost=not no_ghost, vi=vi, theme=theme)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _on_terminal(file, settings, options)
    else:
        _through_pipes(file, settings, options)


def _on_terminal(file: Path | None, settings: Settings, options: Options) -> None:
    from assistant import store
    from assistant.opening import open_session
    from assistant.repl.shell import Fault, Shell
    from validators import PythonValidator

    def fault(text: str) -> Fault | None:
        validator = PythonValidator()
        problems = [p for p in validator.problems(validator.start(text)) if p.side == "left"]
        return Fault(problems[0].offset, problems[0].reason) if problems else None

    shell = Shell(settings, options, opener=open_session, fault=fault, history=store.paths.state() / HISTORY)
    if file:
        shell.load(file)
    # A wrong name is told, and a missing model fetched, before there is a prompt to be disturbed.
    # What is typed meanwhile waits for the prompt, instead of standing in the progress bar.
    with shell.screen.without_echo():
        store.resolve(settings.model, offline=settings.offline)
    if file:
        shell.screen.show(shell.program, SHOWN)
    shell.run()
    if shell.loader.busy:
        # The interpreter would tear down torch while a thread is still importing it, and abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _through_pipes(file: Path | None, settings: Settings, options: Options) -> None:
    from assistant.document import read_text
    from assistant.opening import open_session
    from assistant.repl.pipe import continue_once, read_program

    if file and not sys.stdin.isatty():
        raise UsageProblem("name a file or pipe one in, not both; `viable complete FILE` completes a file")
    program = read_text(file) if file else read_program(sys.stdin.buffer)
    continue_once(
        open_session(settings), program, sys.stdout.buffer, whole_unit=options.stop == "unit", unit=settings.unit
    )
