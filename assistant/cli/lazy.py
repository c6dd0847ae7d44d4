"""Groups of commands that are imported when they are run, so that `viable models path` does not wait for torch."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group made of the modules of `package`, each of which has a click object called `command`.

    `summaries` is command name -> its line in the group's help, so that listing the commands imports none of them.
    `default` is the command that is meant where the first argument is an option of it and not of the group.
    """

    def __init__(
        self, *args: Any, package: str, summaries: Mapping[str, str], default: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._package = package
        self._summaries = summaries
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self._default and args and args[0].startswith("-") and not self._has(self, ctx, args[0]):
            command = self.get_command(ctx, self._default)
            if command and self._has(command, ctx, args[0]):
                if name := next((arg for arg in args if arg in self._summaries), None):
                    ctx.fail(f"{args[0]} comes behind the command: `viable {name} {args[0]} …`")
                args = [self._default, *args]
        return super().parse_args(ctx, args)

    @staticmethod
    def _has(command: click.Command, ctx: click.Context, arg: str) -> bool:
        """Whether an argument is an option of a command, with or without its value behind `=`."""
        name = arg.partition("=")[0]
        return any(name in (*each.opts, *each.secondary_opts) for each in command.get_params(ctx))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries:
            close = difflib.get_close_matches(cmd_name, self._summaries, n=1)
            ctx.fail(f"no command is called {cmd_name!r}" + (f"; did you mean {close[0]}?" if close else ""))
        command = importlib.import_module(f"{self._package}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise click.Abort from interrupt  # caught by click itself it would become a blank line first

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))
