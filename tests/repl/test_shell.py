"""The REPL as a whole: keys in, screen out, with a session that writes what it is told to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from assistant.errors import ViableError
from assistant.repl.commands import COMMANDS
from assistant.repl.keys import hands_over
from assistant.repl.names import ReplCompleter
from assistant.repl.options import Options
from assistant.repl.shell import Fault, Shell
from assistant.settings import DEFAULT_MODEL, Settings
from assistant.store.shipped import SMALL
from tests.repl.fake import FakeSession, no_fault

ENTER, ALT_ENTER, CTRL_C, CTRL_D, TAB = "\r", "\x1b\r", "\x03", "\x04", "\t"
BODY = "    return n * 2\n"


class Paper(DummyOutput):
    """Keeps all that is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, data: str) -> None:
        self.text += data

    write_raw = write

    def get_size(self) -> Size:
        return Size(rows=40, columns=100)


class Bench:
    """A REPL, its keyboard and its paper."""

    def __init__(self, shell: Shell, keyboard: PipeInput, paper: Paper, sessions: list[FakeSession]) -> None:
        self.shell = shell
        self.keyboard = keyboard
        self.paper = paper
        self.sessions = sessions

    @property
    def text(self) -> str:
        return self.shell.program.text

    def type(self, *keys: str) -> str:
        """Type, leave, and return what was written."""
        self.keyboard.send_text("".join(keys) + CTRL_D)
        self.paper.text = ""
        self.shell.leaving = False
        self.shell.run()
        return self.paper.text


@contextmanager
def bench(
    answer: Callable[[str], str] = lambda before: BODY,
    fault: Callable[[str], Fault | None] = no_fault,
    history: Path | None = None,
    stop: str = "end",
    closing: str = "",
    options: Options | None = None,
) -> Iterator[Bench]:
    sessions: list[FakeSession] = []

    def opener(settings: Settings) -> FakeSession:
        sessions.append(FakeSession(answer, stop=stop, closing=closing))
        sessions[-1].name = settings.model
        return sessions[-1]

    with create_pipe_input() as keyboard:
        paper = Paper()
        shell = Shell(
            Settings(),
            options or Options(ghost=False),
            opener=opener,
            fault=fault,
            history=history,
            input=keyboard,
            output=paper,
        )
        yield Bench(shell, keyboard, paper, sessions)


def test_enter_hands_over_and_the_model_goes_on() -> None:
    with bench() as b:
        b.type("def double(n):", ENTER)
        assert b.text == "def double(n):\n" + BODY
        assert [author for author, _ in b.shell.program.lines()] == ["user", "model"]


def test_bytes_that_are_no_text_are_shown_as_such_and_can_be_saved(tmp_path: Path) -> None:
    with bench(lambda before: "") as b:
        b.keyboard.send_bytes(b"x = '\xff\xc3\xa9'\r")
        b.type(f"/save {tmp_path}/saved.py", ENTER)
        assert b.text == "x = '\ufffdé'\n"
    assert (tmp_path / "saved.py").read_text(encoding="utf-8") == b.text


def test_a_history_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    with bench(history=tmp_path) as b:
        written = b.type("def double(n):", ENTER)
        assert b.text == "def double(n):\n" + BODY
        assert "Traceback" not in written and "directory" not in written


def test_an_unfinished_line_is_continued_on_the_same_line() -> None:
    with bench(lambda before: " 1 + 2\n") as b:
        b.type("x =", ENTER)
        assert b.text == "x = 1 + 2\n"


def test_an_empty_line_lets_the_model_go_on() -> None:
    with bench(lambda before: "y = 2\n" if "x" in before else "x = 1\n") as b:
        b.type("# count", ENTER, ENTER)
        assert b.text == "# count\nx = 1\ny = 2\n"


def test_an_empty_line_in_an_empty_program_does_nothing() -> None:
    with bench() as b:
        b.type(ENTER, ENTER)
        assert b.text == ""
        assert not b.sessions[0].requests


def test_enter_in_brackets_is_a_new_line_and_two_hand_over() -> None:
    with bench(lambda before: "") as b:
        b.type("x = [", ENTER, "1,", ENTER, ENTER)
        assert b.text == "x = [\n    1,"


def test_alt_enter_is_an_indented_new_line() -> None:
    with bench(lambda before: "") as b:
        b.type("def f():", ALT_ENTER, "return 1", ALT_ENTER, "f()", ENTER)
        assert b.text == "def f():\n    return 1\nf()\n"


def test_pasted_text_is_taken_as_it_is() -> None:
    with bench(lambda before: "") as b:
        b.type("\x1b[200~def f():\r\n    x = [\r\n\r\n    ]\r\n    return x\x1b[201~", ENTER)
        assert b.text == "def f():\n    x = [\n\n    ]\n    return x\n"


def test_ctrl_c_clears_the_line() -> None:
    with bench(lambda before: "") as b:
        b.type("wrong", CTRL_C, "right = 1", ENTER)
        assert b.text == "right = 1\n"


def test_tab_and_backspace_move_by_levels() -> None:
    with bench(lambda before: "") as b:
        b.type("if x:", ALT_ENTER, TAB, "\x7f", "y()", ENTER)
        assert b.text == "if x:\n    y()\n"


def completions(shell: Shell, text: str, *, asked: bool = True) -> list[str]:
    event = CompleteEvent(completion_requested=asked, text_inserted=not asked)
    return [c.text for c in ReplCompleter(shell).get_completions(Document(text), event)]


def test_names_commands_and_their_arguments_are_completed(tmp_path: Path) -> None:
    (tmp_path / "one.py").touch()
    with bench(lambda before: "") as b:
        b.type("accumulator = prince = 1", ENTER)
        shell = b.shell
        assert completions(shell, "accum") == ["accumulator"]
        assert completions(shell, "x = pri") == ["prince", "print"]
        assert completions(shell, "local_name = 1\nloc") == ["local_name", "locals"]
        assert completions(shell, "thing.pri") == [], "nothing is known of attributes"
        assert completions(shell, "accum", asked=False) == [], "the model suggests while one types"
        assert completions(shell, "/un", asked=False) == ["/undo", "/unit"]
        assert completions(shell, "/set temp") == ["temperature"]
        assert completions(shell, "/set ghost o") == ["on", "off"]
        assert completions(shell, "/set theme mono") == completions(shell, "/theme mono") == ["monokai"]
        assert completions(shell, f"/load {tmp_path}/o") == ["ne.py"]
        assert completions(shell, "/nonesuch x") == []
        assert "qwen2.5-coder-0.5b-instruct" in completions(shell, "/model ")


def test_a_fault_is_not_handed_over() -> None:
    def fault(text: str) -> Fault | None:
        return Fault(text.index("= =") + 2, "invalid syntax") if "= =" in text else None

    with bench(lambda before: "", fault) as b:
        b.type("x = 1", ENTER, "y = = 2", ENTER, "\x7f\x7f", ENTER)
        assert b.text == "x = 1\ny = 2\n", "the cursor stood where the fault was"


def test_undo_offers_what_was_typed_and_redo_brings_back() -> None:
    with bench() as b:
        b.type("def f(n):", ENTER)
        after = b.text
        b.type("/undo", ENTER, CTRL_C)
        assert b.text == ""
        b.type("/redo", ENTER)
        assert b.text == after
        b.type("/undo", ENTER, ALT_ENTER, "pass", ENTER)
        assert b.text == "def f(n):\n    pass\n" + BODY


def test_regen_writes_only_the_model_s_part_again_by_chance() -> None:
    answers = iter(["    return 1\n", "    return 2\n", "    return 3\n"])
    with bench(lambda before: next(answers)) as b:
        b.type("def f():", ENTER, "/regen", ENTER, "/regen", ENTER)
        assert b.text == "def f():\n    return 3\n"
        first, second, third = b.sessions[0].requests
        assert first.temperature == 0
        assert second.temperature == third.temperature == 0.8
        assert second.seed != third.seed
        b.type("/undo", ENTER)
        assert b.text == "def f():\n    return 2\n"


def test_what_is_cut_leaves_the_program_and_is_said() -> None:
    with bench(lambda before: "    x = 1\n    return (x +", stop="length") as b:
        shown = b.type("def f():", ENTER, CTRL_C)
        assert b.text == "def f():\n    x = 1\n"
        assert "✂ cut 'return (x +'" in shown


def test_what_the_session_adds_is_shown() -> None:
    """A completion may end otherwise than what was streamed, where the validator had to close it."""
    with bench(lambda before: "    x = (1", closing=")") as b:
        shown = b.type("def f():", ENTER)
        assert b.text == "def f():\n    x = (1)"
        assert "✂" not in shown


def test_a_cut_that_has_scrolled_away_is_said() -> None:
    unfinished = "    x = (\n" + "        1 +\n" * 100
    with bench(lambda before: unfinished, stop="length") as b:
        shown = b.type("def f():", ENTER, CTRL_C)
        assert b.text == "def f():\n"
        assert "scrolled away; the program now ends with:" in shown
        assert "✂ cut 101 lines" in shown


def test_the_prompt_waits_for_no_model() -> None:
    """What brings torch is imported by the thread that opens a session."""
    code = "import sys, assistant.cli.repl, assistant.repl.shell, validators; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands_say_what_is_wrong_in_a_line() -> None:
    with bench() as b:
        for command, said in (
            ("/undo", "nothing to undo"),
            ("/redo", "nothing to redo"),
            ("/regen", "nothing that could be written again"),
            ("/trace", "nothing yet"),
            ("/run", "no program"),
            ("/save", "which name"),
            ("/load", "which one"),
            ("/load no/such.py", "no such file"),
            ("/udno", "/undo?"),
            ("/xyzzy", "/help lists"),
            ("/set colour red", "unknown setting"),
            ("/set colour", "unknown setting"),
            ("/set temperature hot", "temperature: expected"),
            ("/set temperature -1", "at least 0"),
            ("/set tries 0", "tries must be at least 1, not 0"),
            ("/set tries many", "tries: expected"),
            ("/unit word", "unit must be one of"),
            ("/set stop never", "stop: invalid"),
            ("/theme nonesuch", "unknown theme"),
        ):
            assert said in b.type(command, ENTER).lower(), command
        assert b.text == ""


def test_a_command_may_stand_behind_the_indentation_that_is_offered() -> None:
    with bench(lambda before: "") as b:
        said = b.type("for i in range(3):", ENTER, "/stats", ENTER, "print(i)", ENTER)
        assert "with a valid program" in said
        assert b.text == "for i in range(3):\n    print(i)\n", "what was offered still is, after the command"
        assert completions(b.shell, "    /un", asked=False) == ["/undo", "/unit"]


def test_every_command_is_listed_and_does_something() -> None:
    with bench() as b:
        shown = " ".join(b.type("/help", ENTER).split())
        for name, command in COMMANDS.items():
            assert name in shown
            assert command.help in shown
        for name in ("/show", "/stats", "/set", "/model", "/theme", "/unit", "/copy", "/clear"):
            assert len(b.type(name, ENTER)) > len(b.type("")), name


def test_settings_stand_apart_from_their_values() -> None:
    with bench() as b:
        for name, value in b.shell.all_settings().items():
            assert f" {name} {value}" in " ".join(b.type("/set", ENTER).split())


def test_models_that_come_along_are_known() -> None:
    with bench() as b:
        for name in (DEFAULT_MODEL, SMALL):
            assert name in b.type("/model", ENTER)
            assert name in completions(b.shell, "/model ")


def test_settings_reach_the_request() -> None:
    with bench() as b:
        b.type("/set temperature 0.4", ENTER, "/set max_tokens=17", ENTER, "x = 1", ENTER)
        request = b.sessions[0].requests[0]
        assert (request.temperature, request.max_tokens) == (0.4, 17)
        b.type("/unit block", ENTER, "/set accept syntax", ENTER, "y = 1", ENTER)
        request = b.sessions[0].requests[1]
        assert (request.unit, request.accept) == ("block", "syntax")
        assert "none" in b.type("/unit none", ENTER, "/unit", ENTER)
        b.type("z = 1", ENTER, "/regen", ENTER)
        assert [request.unit for request in b.sessions[0].requests[2:]] == ["none", "none"]
        assert len(b.sessions) == 1, "the session was kept"


def test_several_tries_are_counted_and_traced() -> None:
    with bench() as b:
        said = b.type("/set tries 3", ENTER, "def f(n):", ENTER)
        assert b.sessions[0].requests[0].tries == 3
        assert b.text == "def f(n):\n" + BODY
        assert "thinking, 2 of 3" in said and "thinking, 3 of 3" in said
        traced = b.type("/trace", ENTER)
        assert [traced.find(f"try {number}") >= 0 for number in range(5)] == [False, True, True, True, False]
        assert len(b.sessions) == 1, "the session was kept"
        b.type("/set tries 1", ENTER, "x = 1", ENTER)
        assert b.sessions[0].requests[1].tries == 1
        assert "try" not in b.type("/trace", ENTER).replace("/trace", "")


def test_another_model_is_opened_behind_the_prompt(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.touch()
    with bench() as b:
        b.type(f"/model {other}", ENTER, "x = 1", ENTER)
        assert [session.name for session in b.sessions] == [Settings().model, str(other)]
        assert b.sessions[1].requests
        assert "unknown model" in b.type("/model nonesuch", ENTER).lower()
        assert "no such model file" in b.type("/set model no/such.gguf", ENTER)
        assert b.shell.settings.model == str(other)
        assert len(b.sessions) == 2


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "made.py"
    with bench(lambda before: "") as b:
        b.type("x = 1", ENTER, f"/save {path}", ENTER)
        assert path.read_bytes() == b"x = 1\n"
        b.type("y = 2", ENTER, "/save", ENTER)
        assert path.read_bytes() == b"x = 1\ny = 2\n"
        path.write_bytes(b"theirs = 3\r\n")
        assert "changed meanwhile" in b.type("z = 3", ENTER, "/save", ENTER)
        assert path.read_bytes() == b"theirs = 3\r\n"
        b.type(f"/load {path}", ENTER, "mine = 4", ENTER, "/save", ENTER)
        assert path.read_bytes() == b"theirs = 3\r\nmine = 4\r\n", "the file's line ends are kept"
        assert "exists" in b.type("/clear", ENTER, f"/save {path}", ENTER)


def test_edit_takes_what_the_editor_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho 'z = 3' >> \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    with bench(lambda before: "") as b:
        b.type("x = 1", ENTER, "/edit", ENTER)
        assert b.text == "x = 1\nz = 3\n"


def test_run_shows_output_and_traceback() -> None:
    with bench(lambda before: "") as b:
        shown = b.type("print('h' + 'i \\x1b[31m'); 1 / 0", ENTER, "/run", ENTER)
        assert "hi ^[[31m" in shown
        assert "ZeroDivisionError" in shown
        assert "exit code 1" in shown
        assert "\x1b" not in shown


def test_run_shows_no_more_than_can_be_read() -> None:
    with bench(lambda before: "") as b:
        shown = b.type("print('ab' * 100_000 + '\\n' * 500)", ENTER, "/run", ENTER)
    assert shown.count("ab" * 1_000) <= 2 and "196,000 more characters" in shown
    assert "more lines" in shown and "exit code 0" in shown


def test_history_is_kept_between_sessions(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history"
    with bench(lambda before: "", history=path) as b:
        b.type("first = 1", ENTER)
    assert path.stat().st_mode & 0o077 == 0
    with bench(lambda before: "", history=path) as b:
        b.type("\x1b[A", ENTER)
        assert b.text == "first = 1\n"


def test_vi_keys() -> None:
    with bench(lambda before: "", options=Options(vi=True, ghost=False)) as b:
        b.keyboard.send_text("x = 12\x1b")
        b.type("x", "r7", ENTER)
        assert b.text == "x = 7\n"


def test_an_error_of_the_session_leaves_the_program() -> None:
    def failing(before: str) -> str:
        raise ViableError("out of\nmemory")

    with bench(failing) as b:
        shown = b.type("x = 1", ENTER)
        assert b.text == "x = 1\n"
        assert "out of memory" in shown


def test_an_unforeseen_error_keeps_the_program_in_a_file(tmp_path: Path) -> None:
    def failing(before: str) -> str:
        raise RuntimeError("a bug")

    with bench(failing, history=tmp_path / "history") as b:
        with pytest.raises(RuntimeError, match="a bug"):
            b.type("x = 1", ENTER)
        assert (tmp_path / "recovered.py").read_text() == "x = 1\n"


def test_a_model_that_cannot_be_loaded_ends_it() -> None:
    def opener(settings: Settings) -> FakeSession:
        raise ViableError("no such weights")

    with create_pipe_input() as keyboard:
        shell = Shell(Settings(), Options(), opener=opener, fault=no_fault, input=keyboard, output=Paper())
        with pytest.raises(ViableError, match="no such weights"):
            shell.run()


@pytest.mark.parametrize(
    ("text", "cursor", "expected"),
    [
        *(("x = 1", 5, True), ("x = 1", 0, True), ("f(", 2, False), ("/set", 4, True), ("", 0, True)),
        *(("a\nb", 1, False), ("a\nb", 3, True), ("f(\n", 3, True), ("f(\n    ", 7, True), ("'''a\nb", 6, False)),
    ],
)
def test_where_enter_hands_over(text: str, cursor: int, expected: bool) -> None:
    assert hands_over(text, cursor) is expected
