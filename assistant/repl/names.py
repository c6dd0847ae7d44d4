"""Completion of commands, of their arguments, and of names."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from assistant.repl.commands import COMMANDS, VALUES
from assistant.repl.keys import is_command

if TYPE_CHECKING:
    from assistant.repl.shell import Shell

_NAME = re.compile(r"[^\W\d]\w*")
_LAST_NAME = re.compile(r"(?<!\.)\b[^\W\d]\w*$")
_ALWAYS = frozenset(keyword.kwlist) | {name for name in dir(builtins) if not name.startswith("_")}


class ReplCompleter(Completer):
    """Commands while they are typed, names when asked for: the model already suggests without being asked."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        if is_command(document.text):
            yield from self._of_command(document, complete_event)
        elif complete_event.completion_requested:
            match = _LAST_NAME.search(document.text_before_cursor)
            start = match[0] if match else ""
            if start:
                yield from _beginning(start, names(self._shell.program.text + "\n" + document.text, start))

    def _of_command(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        name, space, argument = document.text_before_cursor.lstrip(" ").partition(" ")
        if not space:
            for command, entry in COMMANDS.items():
                if command.startswith(name):
                    yield Completion(command, -len(name), display=entry.usage, display_meta=entry.help)
            return
        chosen = COMMANDS.get(name)
        if not chosen:
            return
        if chosen.takes_path:
            yield from self._paths.get_completions(Document(argument), event)
        first, space, value = argument.partition(" ")
        if space and name == "/set":
            choices = COMMANDS["/theme"].choices(self._shell) if first == "theme" else VALUES.get(first, ())
            yield from _beginning(value, choices)
        elif not space:
            yield from _beginning(argument, chosen.choices(self._shell))


def names(text: str, start: str) -> list[str]:
    """What `start` may be the beginning of: names of `text`, keywords and builtins, in that order."""
    own = {name for name in _NAME.findall(text) if name != start} - _ALWAYS
    return [name for group in (own, _ALWAYS) for name in sorted(group) if name.startswith(start)]


def _beginning(start: str, choices: Iterable[str]) -> Iterator[Completion]:
    return (Completion(choice, -len(start)) for choice in choices if choice.startswith(start))
