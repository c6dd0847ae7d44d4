"""The command line. Each command is a module of this package with a click object called `command`.

A command's module is imported when it is run or asked for help, so that `viable models path` does not wait for torch.
"""

from __future__ import annotations

import importlib

import click

from assistant import __version__

SUMMARIES = {
    "complete": "Complete a Python file at a position.",
    "repl": "Write code with the model in the terminal.",
    "lsp": "Serve completions to an editor over stdio.",
    "batch": "Complete many prompts from a JSON Lines file.",
    "validate": "Say where Python files stop being valid.",
    "models": "List, fetch, check and remove models.",
    "bench": "Measure what this project claims.",
}
"""Command name -> its line in `viable --help`, so that listing the commands imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUMMARIES:
            return None
        command = importlib.import_module(f"assistant.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="viable")
@click.pass_context
def viable(context: click.Context) -> object:
    """Local code completion for Python in which every suggestion parses.

    \b
    viable                                write code with the model, here (viable repl)
    echo 'def add(a, b):' | viable        continue standard input
    viable complete app.py --at 12:5      fill the gap at line 12, column 5
    viable validate *.py                  where does a file stop being valid?

    The model is fetched once, on first use; `viable models pull` does it beforehand.
    """
    if context.invoked_subcommand is not None:
        return None
    repl = viable.get_command(context, "repl")
    assert repl is not None
    return context.invoke(repl)
