"""The REPL on a terminal: prompt, hand over, show, again."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from prompt_toolkit.output.defaults import create_output

from assistant.completion import Cancel, Request
from assistant.document import Gap
from assistant.errors import ViableError
from assistant.judge import refusal
from assistant.repl.commands import dispatch
from assistant.repl.contracts import Session
from assistant.repl.files import Source
from assistant.repl.ghost import ModelSuggest
from assistant.repl.keys import is_command
from assistant.repl.lines import indentation, may_end, next_indent
from assistant.repl.loading import Loader
from assistant.repl.notes import Part, Totals, after_turn, toolbar
from assistant.repl.options import Options
from assistant.repl.paint import Painter
from assistant.repl.program import Moment, Program, Timeline
from assistant.repl.prompt import new_prompt
from assistant.repl.screen import MARGIN, Screen
from assistant.repl.turn import Turn, take_turn
from assistant.settings import Settings

UNFINISHED = frozenset({"length", "time", "context", "cancelled"})
"""Finish reasons after which a block may still be open."""

SCROLLED = 8
"""Lines shown again where the screen could not be mended."""

WARMER = 0.8
"""Temperature at which a part is written again, where the settings choose the best token only."""


class Fault(NamedTuple):
    """Where a program stops being viable."""

    offset: int
    """Characters from its start."""
    reason: str


class Shell:
    """One REPL. Commands read and change its attributes.

    `opener` opens a session, in a thread; `fault` says where a program that is still being written is broken.
    """

    def __init__(
        self,
        settings: Settings,
        options: Options,
        *,
        opener: Callable[[Settings], Session],
        fault: Callable[[str], Fault | None],
        history: Path | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self.settings = settings
        self.options = options
        self.screen = Screen(output or create_output(), options.theme)
        self.loader = Loader(opener, self._changed)
        self.timeline = Timeline()
        self.turn: Turn | None = None
        """The model's last one."""
        self.totals = Totals()
        self.source: Source | None = None
        """The file that was loaded or saved."""
        self.offered = ""
        """What the next prompt begins with."""
        self.leaving = False
        self._fault = fault
        self._hint = "/help"
        self._again = 0
        self._begun = False
        self._judged = ("", refusal(""))
        self._recovery = (history.parent if history else Path(tempfile.gettempdir())) / "recovered.py"
        self.ghost = ModelSuggest(self._idle_session, lambda: self.program.on_new_line().text)
        self._prompt = new_prompt(self, history, input)

    @property
    def program(self) -> Program:
        return self.timeline.now.program

    def all_settings(self) -> dict[str, Any]:
        """Everything that /set knows, by name."""
        return {**msgspec.structs.asdict(self.settings), **msgspec.structs.asdict(self.options)}

    def reopen(self, settings: Settings) -> None:
        """Open another session behind the prompt; the old one serves until it is there."""
        self.settings = settings
        self.loader.start(settings)

    def run(self) -> None:
        """Prompt until the user leaves. Raises the ViableError for which there is no model at all."""
        self.screen.say(("heading", "viable"), " · type Python, press Enter, the model goes on · /help · Ctrl-D leaves")
        try:
            # Between two prompts, too: an Enter that comes meanwhile would reach the next one as another key.
            with self.screen.without_echo():
                while not self.leaving:
                    text = self._ask()
                    if text is None:
                        return
                    self._obey(text)
        except BaseException:
            self._rescue()
            raise

    def replace_program(self, text: str) -> None:
        """Go on with `text` as the program."""
        self.timeline = self.timeline.record(Moment(Program().plus("user", text)))

    def load(self, path: Path) -> None:
        """Go on with a file. Raises ViableError if it cannot be read."""
        self.source, text = Source.read(path)
        self.replace_program(text)

    def regenerate(self) -> None:
        """Let the model write its last part again, by chance instead of by rank."""
        base = self.timeline.now.base
        assert base is not None
        self._again += 1
        temperature = self.settings.temperature or WARMER
        seed = self.settings.seed + self._again
        self.screen.say(("note", f"again, at temperature {temperature:g} with seed {seed}"))
        painter = self.screen.painter()
        _paint_end(painter, base)
        self._generate(base, painter, Request(Gap(base.text, ""), temperature=temperature, seed=seed), "")

    def _ask(self) -> str | None:
        """What the user types; None to leave."""
        default, self.offered = self.offered, ""
        self._prompt.app.editing_mode = EditingMode.VI if self.options.vi else EditingMode.EMACS
        try:
            return _as_text(self._prompt.prompt(default=default))
        except EOFError:
            return None

    def _obey(self, text: str) -> None:
        """Do what was typed; what can be foreseen to fail becomes a line."""
        try:
            if is_command(text):
                before = self.timeline
                self.screen.say(("command", text.strip()))
                dispatch(self, text)
                if self.timeline is before:
                    self.offered = self.offered or indentation(text)
            else:
                self._hand_over(text)
        except ViableError as error:
            self.screen.say(("bad", " ".join(str(error).split())))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            self.screen.say(("bad", f"{where}{error.strerror or error}"))
        except KeyboardInterrupt:
            self.screen.say(("note", "stopped"))

    def _hand_over(self, text: str) -> None:
        """Append what was typed and let the model go on."""
        typed = text.rstrip()
        base = self.program
        painter = self.screen.painter()
        if typed:
            typed += "\n" if may_end(typed) else ""
            base = base.on_new_line().plus("user", typed)
            painter.write(typed, "user")
        elif not base.text:
            return
        else:
            _paint_end(painter, base)
        self._again = 0
        self._generate(base, painter, Request(Gap(base.text, "")), text.rstrip())

    def _generate(self, base: Program, painter: Painter, request: Request, asked: str) -> None:
        """Let the model continue `base`, and record what is kept. An error or Ctrl-C leaves the user's part."""
        request = self._with_settings(request)
        kept = Moment(base, asked)
        try:
            with _interrupts() as cancel, self.screen.without_echo():
                painter.status("loading the model …" if self.loader.busy else "thinking …")
                session = self.loader.wait(cancel, lambda s: painter.status(f"loading the model … {s} s"))
                if not session:
                    painter.clear_status()
                    return
                painter.clear_status()
                painter.status("thinking …")
                turn = take_turn(
                    session,
                    base.text,
                    request,
                    cancel,
                    _writer(painter),
                    whole_unit=self.options.stop == "unit",
                    trying=_counter(painter, self.settings.tries),
                )
                kept = Moment(base.plus("model", turn.completion.text), asked, base)
            self._keep(painter, turn, kept.program)
        except BaseException:
            painter.clear_status()
            raise
        finally:
            painter.close()
            self.timeline = self.timeline.record(kept)
        self._offer_indent(turn)
        if note := after_turn(turn):
            self.screen.say(*note)

    def _keep(self, painter: Painter, turn: Turn, program: Program) -> None:
        """Make the screen show what is kept of a turn, at the end of `program`, and count it."""
        painter.clear_status()
        if painter.cut(len(turn.cut)):
            painter.write(turn.completion.text[len(turn.shown) - len(turn.cut) :], "model")
        else:
            painter.close()
            self.screen.say(("warning", "what was cut has scrolled away; the program now ends with:"))
            self.screen.show(program, SCROLLED)
        self.turn = turn
        self.totals.add(turn.completion)

    def _offer_indent(self, turn: Turn) -> None:
        text = self.program.text
        if turn.completion.finish_reason in UNFINISHED:
            self.offered = indentation(text.rstrip().rpartition("\n")[2])
        elif not turn.completion.text:
            self.offered = next_indent(text.rstrip())
        else:
            self.offered = turn.indent

    def _with_settings(self, request: Request) -> Request:
        """With what /set says and the request leaves open."""
        s = self.settings
        return Request(
            request.gap,
            max_tokens=s.max_tokens,
            max_ms=s.max_ms,
            temperature=s.temperature if request.temperature is None else request.temperature,
            top_p=s.top_p,
            seed=s.seed if request.seed is None else request.seed,
            tries=s.tries,
            unit=s.unit,
            accept=s.accept,
        )

    def _idle_session(self) -> Session | None:
        return self.loader.session if self.options.ghost and not self.loader.busy else None

    def drawn(self) -> None:
        """A prompt was drawn. Loading begins after the first one, which importing torch would hold up."""
        if not self._begun:
            self._begun = True
            self.loader.start(self.settings)
        elif self.loader.error and not self.loader.session:
            self._loaded()

    def _changed(self) -> None:
        """The loader's session or error changed; called from its thread."""
        if loop := self._prompt.app.loop:
            # Between two prompts there is no loop, and nothing to draw again.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._loaded)

    def _loaded(self) -> None:
        app = self._prompt.app
        if app.future and not app.future.done():
            if self.loader.error and not self.loader.session:
                app.exit(exception=self.loader.error)
            app.invalidate()

    def typed(self) -> None:
        """The text at the prompt changed."""
        self.ghost.cancel()
        self._hint = "/help"

    def nothing_to_clear(self) -> None:
        """Ctrl-C at an empty prompt."""
        self._hint = "Ctrl-D leaves"

    def toolbar(self) -> StyleAndTextTuples:
        """The line below the prompt."""
        text = self.program.text
        if self._judged[0] != text:
            self._judged = (text, refusal(text))
        session = None if self.loader.busy else self.loader.session
        parts: list[Part] = toolbar(
            model=session.name if session else Path(self.settings.model).name,
            device=session.device if session else None,
            completion=self.turn.completion if self.turn else None,
            refusal=self._judged[1],
            capacity=session.capacity if session else None,
            columns=self.screen.output.get_size().columns - len(MARGIN),
            problem=str(self.loader.error) if self.loader.error else None,
            hint=self._hint,
        )
        return [("", MARGIN), *parts]

    def fault_in(self, text: str) -> Fault | None:
        """Where `text`, were it handed over, would break a program that is sound so far; as an offset into `text`."""
        before = self.program.on_new_line().text
        fault = self._fault(before + text.rstrip() + "\n" * may_end(text.rstrip()))
        if fault is None or fault.offset < len(before):
            return None
        return Fault(min(fault.offset - len(before), len(text)), fault.reason)

    def _rescue(self) -> None:
        """Something went wrong: the program should not be lost."""
        if self.program.text:
            with suppress(OSError):
                self._recovery.write_text(self.program.text, encoding="utf-8")
                self.screen.say(("warning", f"the program is kept in {self._recovery}"))


def _as_text(typed: str) -> str:
    """What was typed, with a sign in the place of bytes that are no text: no file could hold them."""
    return typed.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _writer(painter: Painter) -> Callable[[str], None]:
    """Shows what the model writes in place of the note that it is thinking."""
    waiting = True

    def write(text: str) -> None:
        nonlocal waiting
        if waiting and text:
            painter.clear_status()
            waiting = False
        painter.write(text, "model")

    return write


def _counter(painter: Painter, tries: int) -> Callable[[int], None]:
    """Says how far several tries have come."""
    said = 1

    def count(number: int) -> None:
        nonlocal said
        if number > said:
            said = number
            painter.status(f"thinking, {number} of {tries} …")

    return count


def _paint_end(painter: Painter, program: Program) -> None:
    """The line that the model goes on with, where it is not a new one."""
    author, line = list(program.lines())[-1]
    painter.write(line + ("\n" if program.text.endswith("\n") else ""), author)


@contextmanager
def _interrupts() -> Iterator[Cancel]:
    """Ctrl-C raises a flag instead of an exception."""
    cancel = Cancel()
    before = signal.signal(signal.SIGINT, lambda number, frame: cancel.set())
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)
