"""The command line. Each command is a module of this package with a click object called `command`."""

from __future__ import annotations

import click

from assistant import __version__
from assistant.cli.lazy import LazyGroup

SUMMARIES = {
    "complete": "Complete a Python file at a position.",
    "repl": "Write code with the model in the terminal.",
    "lsp": "Serve completions to an editor over stdio.",
    "batch": "Complete many prompts from a JSON Lines file.",
    "validate": "Say where Python files stop being valid.",
    "models": "List, fetch, check and remove models.",
    "convert": "Express a model's attention as latent attention.",
    "train": "Train the small model, the adapter and the drafting modules.",
    "finetune": "Train the small model on your own code.",
    "eval": "Measure how good the answers are.",
    "bench": "Measure speed and exactness.",
}


@click.group(
    cls=LazyGroup,
    package=__name__,
    summaries=SUMMARIES,
    default="repl",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="viable")
@click.pass_context
def viable(context: click.Context) -> object:
    """Local code completion for Python in which every suggestion parses.

    \b
    viable                                write code with the model, here (viable repl)
    viable --model NAME                   the same, with an option of viable repl
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
