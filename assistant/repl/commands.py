"""The REPL's commands as a table: a name, what it takes, what it does, and the function that does it."""

from __future__ import annotations

import base64
import difflib
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import msgspec

from assistant.document import Gap
from assistant.errors import UsageProblem, ViableError
from assistant.repl.files import Source
from assistant.repl.keys import HELP
from assistant.repl.notes import trace, trace_head, trace_width
from assistant.repl.options import PER_REQUEST, STOPS, changed
from assistant.repl.program import Moment, Program
from assistant.repl.screen import themes
from assistant.sandbox import run_program
from assistant.store import resolve
from assistant.store.catalogue import known
from assistant.store.shipped import shipped
from validators.contracts import Unit

if TYPE_CHECKING:
    from assistant.repl.shell import Shell

UNITS = get_args(Unit)

TAIL = 12
"""Lines of the program shown after a change that was not typed."""

NAME_WIDTH = 14
"""Columns of a setting's name, one blank included."""
USAGE_WIDTH = 20
"""Columns of a command with its arguments."""

RUN_OUTPUT = 200
"""Lines of a program's output that /run shows."""

RUN_LINE = 4_000
"""Characters of such a line."""


def undo(shell: Shell, argument: str) -> None:
    before = shell.timeline
    shell.timeline = before.undo()
    if shell.timeline == before:
        raise ViableError("there is nothing to undo")
    shell.offered = before.now.asked
    show_tail(shell, "taken back")


def redo(shell: Shell, argument: str) -> None:
    before = shell.timeline
    shell.timeline = before.redo()
    if shell.timeline == before:
        raise ViableError("there is nothing to redo")
    show_tail(shell, "brought back")


def regen(shell: Shell, argument: str) -> None:
    if shell.timeline.now.base is None:
        raise ViableError("the model has written nothing that could be written again")
    shell.regenerate()


def edit(shell: Shell, argument: str) -> None:
    try:
        with shell.screen.with_echo():
            text = click.edit(shell.program.text, extension=".py", require_save=False)
    except click.ClickException as error:
        raise ViableError(error.format_message()) from None
    if text is None or (text := Gap(text, "").prefix) == shell.program.text:
        shell.screen.say(("note", "nothing changed"))
        return
    shell.replace_program(text)
    show_tail(shell, "edited")


def save(shell: Shell, argument: str) -> None:
    if argument:
        path = Path(argument).expanduser()
    elif shell.source:
        path = shell.source.path
    else:
        raise UsageProblem("/save FILE: under which name?")
    text = shell.program.on_new_line().text
    if shell.source and path == shell.source.path:
        shell.source = shell.source.saved(text)
    else:
        shell.source = Source.created(path, text)
    shell.screen.say(("note", f"saved {len(text.splitlines())} lines to {path}"))


def load(shell: Shell, argument: str) -> None:
    if not argument:
        raise UsageProblem("/load FILE: which one?")
    shell.load(Path(argument).expanduser())
    show_tail(shell, f"loaded {argument}")


def run(shell: Shell, argument: str) -> None:
    if not shell.program.text.strip():
        raise ViableError("there is no program to run yet")
    options = shell.options
    outcome = run_program(
        shell.program.text, arguments=_words(argument), seconds=options.seconds, megabytes=options.megabytes
    )
    for text, style in ((outcome.stdout, ""), (outcome.stderr, "bad")):
        lines = text.expandtabs().splitlines()
        for line in lines[:RUN_OUTPUT]:
            shell.screen.write(style, line[:RUN_LINE])
            if len(line) > RUN_LINE:
                shell.screen.say(("note", f"… {len(line) - RUN_LINE:,} more characters"))
        if len(lines) > RUN_OUTPUT:
            shell.screen.say(("note", f"… {len(lines) - RUN_OUTPUT} more lines"))
    good = outcome.exit_code == 0
    shell.screen.say(("good" if good else "warning", outcome.summary))


def copy(shell: Shell, argument: str) -> None:
    text = shell.program.text
    shell.screen.output.write_raw(f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07")
    shell.screen.output.flush()
    shell.screen.say(("note", f"sent {len(text.splitlines())} lines to the terminal's clipboard (OSC 52)"))


def show(shell: Shell, argument: str) -> None:
    shell.screen.show(shell.program)


def clear(shell: Shell, argument: str) -> None:
    shell.timeline = shell.timeline.record(Moment(Program()))
    shell.source = None
    shell.screen.say(("note", "a new program; /undo brings the old one back"))


def model(shell: Shell, argument: str) -> None:
    if not argument:
        session = shell.loader.session
        name, where = (session.name, f" on {session.device}") if session else (shell.settings.model, "")
        shell.screen.say(f"{name}{where}; known: {', '.join(names(shell))}; or a path")
        return
    # Fetching would draw its progress over the prompt.
    resolve(argument, pull=False)
    shell.reopen(shell.settings.replaced(model=argument))
    shell.screen.say(("note", f"{argument} is being loaded behind the prompt"))


def set_option(shell: Shell, argument: str) -> None:
    name, _, value = argument.replace("=", " ").partition(" ")
    if not name:
        for key, current in shell.all_settings().items():
            shell.screen.say(("command", f"{key:<{NAME_WIDTH}}"), str(current), hang=NAME_WIDTH)
        return
    if not value.strip():
        if name not in shell.all_settings():
            changed(shell.settings, shell.options, name, value)
        shell.screen.say(("command", f"{name:<{NAME_WIDTH}}"), str(shell.all_settings()[name]))
        return
    settings, options = changed(shell.settings, shell.options, name, value.strip())
    if options.theme != shell.options.theme:
        shell.screen.set_theme(options.theme)
    if settings == shell.settings or name in PER_REQUEST:
        shell.settings = settings
    else:
        resolve(settings.model, pull=False)
        shell.reopen(settings)
    shell.options = options
    shell.screen.say(("command", f"{name:<{NAME_WIDTH}}"), str(shell.all_settings()[name]))


def theme(shell: Shell, argument: str) -> None:
    if argument:
        shell.screen.set_theme(argument)
        shell.options = msgspec.structs.replace(shell.options, theme=argument)
        show_tail(shell, f"theme {argument}")
    else:
        shell.screen.say(", ".join(f"[{name}]" if name == shell.options.theme else name for name in themes()))


def unit(shell: Shell, argument: str) -> None:
    set_option(shell, f"unit {argument}")


def stats(shell: Shell, argument: str) -> None:
    for name, value in shell.totals.lines():
        shell.screen.say(("command", f"{name:<{NAME_WIDTH}}"), value, hang=NAME_WIDTH)


def show_trace(shell: Shell, argument: str) -> None:
    if not shell.turn:
        raise ViableError("the model has written nothing yet")
    shell.screen.say(("note", "⏎ ends a line; · was not drafted: a single token a pass"))
    width = trace_width(shell.screen.output.get_size().columns)
    shell.screen.say(("heading", trace_head(width)))
    c = shell.turn.completion
    for number, blocks in groupby(shell.turn.blocks, lambda block: block.attempt):
        if c.tries > 1:
            shell.screen.say(("note", f"try {number}"))
        for line in trace(blocks, width):
            shell.screen.say(*line)
    shell.screen.say(
        ("note", f"{c.tokens} tokens in {c.passes} passes: {c.drafted} drafted, {c.accepted} accepted, "),
        ("note", f"{c.fallbacks} fallbacks, {c.avoided} syntax errors avoided"),
    )


def show_help(shell: Shell, argument: str) -> None:
    screen = shell.screen
    screen.say("You and the model write one program. Lines with › are yours, lines with │ the model's.")
    for keys, does in HELP:
        screen.say(("command", f"{keys:<{USAGE_WIDTH}}"), does, hang=USAGE_WIDTH)
    for command in COMMANDS.values():
        screen.say(("command", f"{command.usage:<{USAGE_WIDTH}}"), command.help, hang=USAGE_WIDTH)


def leave(shell: Shell, argument: str) -> None:
    shell.leaving = True


def show_tail(shell: Shell, what: str) -> None:
    """Say what happened, and show where the program now ends."""
    shell.screen.say(("note", what if shell.program.text else f"{what}; the program is empty"))
    shell.screen.show(shell.program, TAIL)


def names(shell: Shell) -> Iterable[str]:
    """Of models."""
    return dict.fromkeys((*known(), *shipped()))


def units(shell: Shell) -> Iterable[str]:
    return (*UNITS, "none")


def _words(argument: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(argument))
    except ValueError as error:
        raise UsageProblem(f"/run: {str(error).lower()}") from None


@dataclass(frozen=True)
class Command:
    """Something to do that is no Python."""

    usage: str
    help: str
    function: Callable[[Shell, str], None]
    choices: Callable[[Shell], Iterable[str]] = lambda shell: ()
    """What its argument may be, for completion."""

    @property
    def takes_path(self) -> bool:
        return "FILE" in self.usage


COMMANDS = {
    command.usage.split()[0]: command
    for command in (
        Command("/undo", "take the last turn back, and offer what you typed again", undo),
        Command("/redo", "bring it back", redo),
        Command("/regen", "let the model write its part again, differently", regen),
        Command("/show", "show the whole program", show),
        Command("/edit", "change the program in $EDITOR", edit),
        Command("/run [ARGUMENT]…", "run it in a process of its own, limited in time and memory", run),
        Command("/save [FILE]", "write it to a file", save),
        Command("/load FILE", "go on with a file", load),
        Command("/copy", "put it on the clipboard, through the terminal", copy),
        Command("/clear", "begin a new program", clear),
        Command("/trace", "show the last turn block by block: drafted, viable, accepted, fallback", show_trace),
        Command("/stats", "show what was counted so far", stats),
        Command("/set [NAME [VALUE]]", "show or change settings", set_option, lambda shell: shell.all_settings()),
        Command("/model [NAME|PATH]", "show or change the model", model, names),
        Command("/unit [UNIT]", f"let the model write one {', '.join(UNITS)}; none: as /set stop says", unit, units),
        Command("/theme [NAME]", "show or change the colours", theme, lambda shell: themes()),
        Command("/help", "show this", show_help),
        Command("/quit", "leave", leave),
    )
}

VALUES = {
    "stop": STOPS,
    "unit": (*UNITS, "none"),
    "ghost": ("on", "off"),
    "vi": ("on", "off"),
    "offline": ("on", "off"),
}
"""Setting -> its values, for completion."""


def dispatch(shell: Shell, line: str) -> None:
    """Do what a line that begins with "/" says."""
    name, _, argument = line.strip().partition(" ")
    if not (command := COMMANDS.get(name)):
        near = difflib.get_close_matches(name, COMMANDS, 1)
        raise UsageProblem(f"unknown command {name}; {f'{near[0]}?' if near else '/help lists them'}")
    command.function(shell, argument.strip())
