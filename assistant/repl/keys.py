"""What the keys do beyond prompt-toolkit's own Emacs and vi bindings."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, vi_navigation_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from assistant.repl.lines import INDENT, is_open, next_indent

COMMAND = "/"
"""Begins a command; no Python line begins with it."""

HELP = (
    ("Enter", "hand the text to the model; on an empty line: let it go on with the program"),
    ("", "inside brackets or a long string, or above the last line: a new line"),
    ("Alt-Enter, Ctrl-J", "a new line, indented (also Esc, then Enter)"),
    ("Tab, Right", "take the grey suggestion; Alt-F or Ctrl-Right takes a word of it"),
    ("Tab", "indent at the start of a line, complete a name or command elsewhere"),
    ("Up, Down, Ctrl-R", "earlier input, kept between sessions"),
    ("Ctrl-C", "stop the model and keep what is there; at the prompt: clear it"),
    ("Ctrl-D", "leave, at an empty prompt"),
    ("Ctrl-Z", "back to the shell, whose `fg` comes back here"),
)
"""Keys and what they do, for /help."""


def is_command(text: str) -> bool:
    """Is this input a command? It may stand behind the indentation that the prompt has offered."""
    return text.lstrip(" ").startswith(COMMAND)


def hands_over(text: str, cursor: int) -> bool:
    """Does Enter at `cursor` hand `text` over? Otherwise it begins a new line."""
    if is_command(text):
        return True
    if "\n" in text[cursor:]:
        return False
    return not text.rpartition("\n")[2].strip() or not is_open(text)


def bindings(nothing_to_clear: Callable[[], None]) -> KeyBindings:
    """The REPL's keys. `nothing_to_clear` is called for Ctrl-C at an empty prompt."""
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif hands_over(buffer.text, buffer.cursor_position):
            buffer.validate_and_handle()
        else:
            new_line(buffer)

    @keys.add("enter", filter=vi_navigation_mode)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def _(event: KeyPressEvent) -> None:
        new_line(event.current_buffer)

    @keys.add("tab", filter=Condition(_suggested))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.suggestion:
            buffer.insert_text(buffer.suggestion.text)

    @keys.add("tab", filter=Condition(_in_indentation))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        buffer.insert_text(" " * (INDENT - buffer.document.cursor_position_col % INDENT))

    @keys.add("backspace", filter=Condition(_in_deep_indentation))
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        buffer.delete_before_cursor((buffer.document.cursor_position_col - 1) % INDENT + 1)

    @keys.add("c-d", filter=Condition(_blank))
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError, style="class:exiting")

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if not event.current_buffer.text:
            nothing_to_clear()
        event.current_buffer.reset()

    return keys


def new_line(buffer: Buffer) -> None:
    """Break the line at the cursor and indent what follows."""
    before = buffer.document.text_before_cursor
    buffer.insert_text("\n" + next_indent(before))


def _blank() -> bool:
    """Only an offered indentation, at most."""
    return not get_app().current_buffer.text.strip()


def _suggested() -> bool:
    buffer = get_app().current_buffer
    return bool(buffer.suggestion) and buffer.document.is_cursor_at_the_end


def _in_indentation() -> bool:
    buffer = get_app().current_buffer
    return not buffer.document.current_line_before_cursor.strip() and not buffer.complete_state and not _suggested()


def _in_deep_indentation() -> bool:
    line = get_app().current_buffer.document.current_line_before_cursor
    return len(line) > 1 and not line.strip(" ") and not get_app().current_buffer.selection_state
