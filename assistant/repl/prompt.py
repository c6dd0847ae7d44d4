"""The prompt: prompt-toolkit's parts, joined for a shell."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.lexers import DynamicLexer, PygmentsLexer, SimpleLexer
from prompt_toolkit.styles import DynamicStyle
from prompt_toolkit.validation import ValidationError, Validator
from pygments.lexers.python import PythonLexer

from assistant.repl.keys import bindings, is_command
from assistant.repl.names import ReplCompleter
from assistant.repl.paint import GUTTER, WRAPPED

if TYPE_CHECKING:
    from assistant.repl.shell import Shell

ESCAPE = 0.05
"""Seconds after which a lone Esc is one, and not the beginning of another key."""

MENU_ROWS = 6
"""Rows kept free below the prompt for completions, where there is room for them."""
OTHER_ROWS = 3
"""Rows of the line that is typed, of what is wrong with it, and of the toolbar."""


def new_prompt(shell: Shell, history: Path | None, input: Input | None) -> PromptSession[str]:
    """A prompt that vanishes when it is done: the shell paints what was typed as a part of the program."""
    command, python = SimpleLexer("class:command"), PygmentsLexer(PythonLexer)

    def continuation(width: int, line: int, wrapped: int) -> StyleAndTextTuples:
        return [("class:gutter.user", WRAPPED if wrapped else GUTTER["user"])]

    def fit(rows: int) -> None:
        prompt.reserve_space_for_menu = max(min(MENU_ROWS, rows - OTHER_ROWS), 0)

    prompt: PromptSession[str] = PromptSession(
        [("class:gutter.user", GUTTER["user"])],
        prompt_continuation=continuation,
        multiline=True,
        lexer=DynamicLexer(lambda: command if is_command(prompt.default_buffer.text) else python),
        style=DynamicStyle(lambda: shell.screen.style),
        include_default_pygments_style=False,
        history=_history(history),
        key_bindings=bindings(shell.nothing_to_clear),
        completer=ReplCompleter(shell),
        auto_suggest=shell.ghost,
        validator=_NewFault(shell),
        validate_while_typing=False,
        bottom_toolbar=shell.toolbar,
        erase_when_done=True,
        reserve_space_for_menu=MENU_ROWS,
        enable_suspend=True,
        input=input,
        output=shell.screen.output,
    )
    prompt.default_buffer.on_text_changed += lambda _: shell.typed()
    prompt.app.before_render += lambda app: fit(app.output.get_size().rows)
    prompt.app.after_render += lambda _: shell.drawn()
    prompt.app.ttimeoutlen = ESCAPE
    return prompt


class _NewFault(Validator):
    """Refuses to hand over what can never become valid, and puts the cursor there."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def validate(self, document: Document) -> None:
        if not is_command(document.text) and (fault := self._shell.fault_in(document.text)):
            raise ValidationError(fault.offset, f"  {fault.reason}")


def _history(path: Path | None) -> History:
    """In a file that only the user can read; in memory where there is none, or it cannot be written."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return _Kept(str(path))


class _Kept(FileHistory):
    """Earlier input in a file; a file that cannot be read has none, and what does not fit on the disk is forgotten."""

    def load_history_strings(self) -> Iterable[str]:
        try:
            return super().load_history_strings()
        except OSError:
            return ()

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)
