"""The terminal as the REPL writes to it: colours by name, notes, and painters for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.output import Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import BaseStyle, Style, merge_styles, style_from_pygments_cls

from assistant.errors import UsageProblem
from assistant.repl.notes import folded
from assistant.repl.paint import Painter
from assistant.repl.program import Program
from assistant.repl.visible import visible

TERMINAL = "terminal"
"""The theme in the terminal's own colours, which suit its background, whatever that is."""

_TERMINAL_COLOURS = {
    "pygments.comment": "ansibrightblack italic",
    "pygments.keyword": "ansimagenta",
    "pygments.keyword.constant": "ansicyan",
    "pygments.name.builtin": "ansicyan",
    "pygments.name.builtin.pseudo": "ansicyan italic",
    "pygments.name.class": "ansiyellow",
    "pygments.name.decorator": "ansiyellow",
    "pygments.name.exception": "ansiyellow",
    "pygments.name.function": "ansiblue",
    "pygments.name.function.magic": "ansiblue",
    "pygments.literal.number": "ansicyan",
    "pygments.literal.string": "ansigreen",
    "pygments.literal.string.escape": "ansibrightgreen",
    "pygments.literal.string.interpol": "ansibrightgreen",
    "pygments.operator.word": "ansimagenta",
}

_OWN = {
    "gutter.user": "ansigreen bold",
    "gutter.model": "ansibrightblack",
    "note": "ansibrightblack",
    "good": "ansigreen",
    "warning": "ansiyellow",
    "bad": "ansired",
    "heading": "bold",
    "command": "ansicyan",
    "unprintable": "reverse",
    "bottom-toolbar": "noreverse ansibrightblack",
    "bottom-toolbar.text": "",
    "validation-toolbar": "noreverse ansired",
    "auto-suggestion": "ansibrightblack italic",
}

MARGIN = "  "
"""Left of what is no program: as wide as a gutter."""


def themes() -> Iterator[str]:
    """Every name that `theme_style` knows."""
    from pygments.styles import get_all_styles

    yield TERMINAL
    yield from sorted(get_all_styles())


def theme_style(name: str) -> BaseStyle:
    """The colours of a theme, for ptk. Raises UsageProblem for an unknown one."""
    if name == TERMINAL:
        return merge_styles([Style.from_dict(_TERMINAL_COLOURS), Style.from_dict(_OWN)])
    if name not in themes():
        raise UsageProblem(f"unknown theme {name!r}; /theme lists them")
    from pygments.styles import get_style_by_name

    return merge_styles([style_from_pygments_cls(get_style_by_name(name)), Style.from_dict(_OWN)])


def _shown(parts: Iterable[tuple[str, str] | str]) -> list[tuple[str, str]]:
    """Styles and texts, with nothing in them that would steer a terminal."""
    pairs = (("", part) if isinstance(part, str) else (f"class:{part[0]}", part[1]) for part in parts)
    return [(style, visible(text)) for style, text in pairs]


class Screen:
    """Writes whole lines, from the left margin to the left margin."""

    def __init__(self, output: Output, theme: str = TERMINAL) -> None:
        self.output = output
        self.theme = theme
        self.style = theme_style(theme)
        self._usual: list[Any] | None = None
        """The terminal's attributes before `without_echo` changed them."""

    def set_theme(self, name: str) -> None:
        self.style = theme_style(name)
        self.theme = name

    def say(self, *parts: tuple[str, str] | str, hang: int = 0) -> None:
        """One line; a part is a text, or a style class and a text. Where it is too long, its rest begins at `hang`."""
        room = max(self.output.get_size().columns - len(MARGIN) - 1, len(MARGIN))
        for row in folded(_shown(parts), room, hang):
            self._print(row)

    def write(self, style: str, line: str) -> None:
        """A line of a program's output, which the terminal itself breaks where it is too long."""
        self._print(_shown([(style, line)]))

    def _print(self, row: Iterable[tuple[str, str]]) -> None:
        print_formatted_text(self.output, FormattedText([("", MARGIN), *row, ("", "\n")]), self.style)

    def painter(self) -> Painter:
        return Painter(self.output, self.style)

    def show(self, program: Program, rows: int | None = None) -> None:
        """The program, or its last `rows` lines."""
        lines = list(program.lines())
        hidden = len(lines) - rows if rows and len(lines) > rows + 1 else 0
        if hidden:
            self.say(("note", f"… {hidden} lines above (/show)"))
        painter = self.painter()
        for author, text in lines[hidden:]:
            painter.write(text + "\n", author)
        painter.close()

    @contextmanager
    def without_echo(self) -> Iterator[None]:
        """Keys pressed meanwhile are not shown; the next prompt gets them. Ctrl-C still interrupts."""
        try:
            import termios

            fd = sys.stdin.fileno()
            before = termios.tcgetattr(fd)
        except (ImportError, OSError, ValueError, termios.error):
            yield
            return
        outermost = self._usual is None
        self._usual = self._usual or before
        quiet = list(before)
        quiet[0] &= ~termios.ICRNL
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(fd, termios.TCSANOW, quiet)
        try:
            yield
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
            if outermost:
                self._usual = None

    @contextmanager
    def with_echo(self) -> Iterator[None]:
        """The terminal as it was before, for a program of its own."""
        if self._usual is None:
            yield
            return
        import termios

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        termios.tcsetattr(fd, termios.TCSANOW, self._usual)
        try:
            yield
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
