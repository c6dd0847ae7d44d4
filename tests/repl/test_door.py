"""The REPL by its real door: on a terminal, through tmux."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.repl.commands import COMMANDS
from tests.assistant.store_hub import Answer, web_server, write_own_models
from tests.tiny import write_tiny_gguf

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds until a screen must show what is expected."""

pytestmark = pytest.mark.e2e

BODY = """\
    if n < 2:
        return False
    return all(n % d for d in range(2, n))


print(is_prime(7))
"""


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, folder: Path, command: str, environment: dict[str, str]) -> None:
        self._socket = str(folder / "tmux")
        self._exit = folder / "exit"
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
        # The shell lets Ctrl-C pass, so that it can tell the exit code of a command that was interrupted.
        line = f"trap : INT; cd {shlex.quote(str(ROOT))}; env {exports} {command}; echo $? > {self._exit}; sleep 60"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", line)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout

    def keys(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def screen(self, *, colours: bool = False) -> str:
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def until(self, shows: str | Callable[[str], bool], *, colours: bool = False) -> str:
        """The screen, as soon as it shows what is expected."""
        deadline = time.monotonic() + PATIENCE
        while True:
            screen = self.screen(colours=colours)
            if shows in screen if isinstance(shows, str) else shows(screen):
                return screen
            assert time.monotonic() < deadline, f"waited for {shows!r} in vain:\n{screen}"
            time.sleep(0.05)

    def exit_code(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while not (self._exit.exists() and self._exit.read_text().strip()):
            assert time.monotonic() < deadline, f"it did not end:\n{self.screen()}"
            time.sleep(0.05)
        return int(self._exit.read_text())

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)


Start = Callable[[str], Terminal]


def wait_for(path: Path) -> None:
    """Wait until there is a file."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands on terminals; VIABLE_HOME is a folder of the test's own."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed; CI installs it")
    terminals: list[Terminal] = []

    def begin(command: str) -> Terminal:
        folder = tmp_path / str(len(terminals))
        folder.mkdir()
        environment = {
            "VIABLE_HOME": str(tmp_path / "home"),
            "TERM": "tmux-256color",
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "",
        }
        terminals.append(Terminal(folder, command, environment))
        return terminals[-1]

    yield begin
    for terminal in terminals:
        terminal.close()


def fake(tmp_path: Path, answer: str, *, pause: float = 0.0, loaded: Path | None = None) -> str:
    """The command of a REPL with a session that writes `answer`, or counts; opened when there is a file `loaded`."""
    path = tmp_path / "answer.py"
    path.write_text(answer, encoding="utf-8")
    source = "counting" if answer == "counting" else str(path)
    python = shlex.quote(sys.executable)
    return f"{python} -m tests.repl.fake {source} {pause} {tmp_path}/history {loaded or ''}"


def test_a_session(start: Start, tmp_path: Path) -> None:
    """Type, see highlighted text that ends with its unit, look at the trace, run it, leave."""
    terminal = start(fake(tmp_path, BODY, pause=0.01))
    terminal.until("✓ parses")
    terminal.type("def is_prime(n):")
    terminal.keys("Enter")
    screen = terminal.until("tokens/s")
    assert "› def is_prime(n):\n│     if n < 2:\n│         return False\n│     return all(" in screen
    assert "print(is_prime" not in screen, "the unit was over"
    coloured = terminal.screen(colours=True)
    for keyword in ("def", "if", "return"):
        assert re.search(rf"\x1b\[35m(\x1b\[49m)?{keyword}\b", coloured), keyword
    terminal.type("print(is_prime(97))")
    terminal.keys("Enter")
    terminal.until("print(is_prime(97))\n")
    terminal.type("/undo")
    terminal.keys("Enter")
    terminal.until("taken back")
    terminal.keys("C-c")
    terminal.type("/trace")
    terminal.keys("Enter")
    terminal.until(lambda screen: "drafted" in screen and "fallback" in screen)
    terminal.keys("C-d")
    assert terminal.exit_code() == 0


def test_ctrl_c_stops_and_keeps(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, "counting", pause=0.02))
    terminal.until("✓ parses")
    terminal.type("def count():")
    terminal.keys("Enter")
    terminal.until("value_4 = ")
    terminal.keys("C-c")
    screen = terminal.until("stopped; Enter goes on")
    assert "value_3 = 3 + 1" in screen
    assert "✓ parses" in terminal.until("tokens/s")
    terminal.keys("C-c")
    terminal.type("/run")
    terminal.keys("Enter")
    terminal.until("exit code 0")
    terminal.keys("C-d")
    assert terminal.exit_code() == 0


def test_ctrl_c_ends_a_program_that_runs(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, ""))
    terminal.until("✓ parses")
    begun = tmp_path / "begun"
    terminal.type(f"open({str(begun)!r}, 'w')")
    terminal.keys("Enter")
    terminal.until("nothing to add")
    terminal.type("while True: pass")
    terminal.keys("Enter")
    terminal.until(lambda screen: screen.count("nothing to add") == 2)
    terminal.type("/run")
    terminal.keys("Enter")
    wait_for(begun)
    terminal.keys("C-c")
    terminal.until("stopped")
    terminal.type("/quit")
    terminal.keys("Enter")
    assert terminal.exit_code() == 0


def test_what_is_typed_while_it_writes_waits(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, BODY, pause=0.03))
    terminal.until("✓ parses")
    terminal.type("def is_prime(n):")
    terminal.keys("Enter")
    terminal.until("if n")
    terminal.type("ahead = 1")
    terminal.until("return all(n % d for d in range(2, n))\n› ahead = 1\n")


def test_what_is_typed_while_a_program_runs_waits(start: Start, tmp_path: Path) -> None:
    """Enter included, which a terminal in its usual mode would pass on as another key; nothing is shown twice."""
    terminal = start(fake(tmp_path, ""))
    terminal.until("✓ parses")
    begun, typed = tmp_path / "begun", tmp_path / "typed"
    program = tmp_path / "waits.py"
    program.write_text(
        f"import os, time\nopen({str(begun)!r}, 'w')\nwhile not os.path.exists({str(typed)!r}):\n    time.sleep(0.01)\n"
    )
    terminal.type(f"/load {program}")
    terminal.keys("Enter")
    terminal.until("loaded")
    terminal.keys("Enter")
    terminal.until("nothing to add")
    terminal.type("/run")
    terminal.keys("Enter")
    wait_for(begun)
    terminal.type("/stats")
    terminal.keys("Enter")
    typed.touch()
    screen = terminal.until(lambda screen: "exit code 0" in screen and "1 with a valid program" in screen)
    assert screen.count("/stats") == 1
    terminal.keys("C-d")
    assert terminal.exit_code() == 0


def test_an_editor_has_the_terminal_as_it_was(start: Start, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nstty -a > " + shlex.quote(str(tmp_path / "stty")) + "\n")
    editor.chmod(0o755)
    terminal = start(f"env EDITOR={editor} VISUAL={editor} {fake(tmp_path, '')}")
    terminal.until("✓ parses")
    terminal.type("/edit")
    terminal.keys("Enter")
    terminal.until("nothing changed")
    modes = (tmp_path / "stty").read_text().replace(";", " ").split()
    assert {"icrnl", "icanon", "echo"} <= set(modes)
    terminal.keys("C-d")
    assert terminal.exit_code() == 0


def test_typing_while_the_model_loads(start: Start, tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    terminal = start(fake(tmp_path, BODY, loaded=loaded))
    terminal.until("loading")
    terminal.type("def is_prime(n):")
    terminal.keys("Enter")
    terminal.until("loading the model")
    loaded.touch()
    terminal.until("│     return all(")


def test_ctrl_c_while_the_model_loads_keeps_what_was_typed(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, BODY, loaded=tmp_path / "never"))
    terminal.until("loading")
    terminal.type("x = 1")
    terminal.keys("Enter")
    terminal.until("loading the model")
    terminal.keys("C-c")
    terminal.until(lambda screen: "loading, type on" in screen and "› x = 1\n" in screen)
    terminal.keys("C-d")
    assert terminal.exit_code() == 0


def test_control_characters_reach_no_terminal(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, "x = '\x1b[2J\x1b]0;owned\x07\x9b31m\u202e'\n"))
    terminal.until("✓ parses")
    terminal.type("# escape")
    terminal.keys("Enter")
    screen = terminal.until("tokens/s")
    assert "│ x = '^[[2J^[]0;owned^G<9b>31m<202e>'" in screen
    assert "› # escape" in screen, "nothing was erased"


def test_a_paste_is_one_input(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, ""))
    terminal.until("✓ parses")
    (tmp_path / "paste").write_text("def f():\n    x = 1\n\n    return x")
    terminal._tmux("load-buffer", str(tmp_path / "paste"))
    terminal._tmux("paste-buffer", "-p")
    terminal.until("› def f():\n›     x = 1\n›\n›     return x")
    terminal.keys("Enter")
    terminal.until("nothing to add")


def test_ctrl_z_leads_to_the_shell_and_back(start: Start, tmp_path: Path) -> None:
    terminal = start("bash --norc -i")
    terminal.type(fake(tmp_path, "counting", pause=0.02))
    terminal.keys("Enter")
    terminal.until("✓ parses")
    terminal.type("y = 12")
    terminal.until("› y = 12")
    terminal.keys("C-z")
    terminal.until("Stopped")
    terminal.type("fg")
    terminal.keys("Enter")
    terminal.until("› y = 12")
    terminal.keys("C-c")
    terminal.type("def count():")
    terminal.keys("Enter")
    terminal.until("value_2 = ")
    terminal.keys("C-z")
    terminal.until(lambda screen: screen.count("Stopped") == 2)
    terminal.type("fg")
    terminal.keys("Enter")
    terminal.until("value_9 = ")
    terminal.keys("C-c")
    terminal.until("stopped; Enter goes on")
    terminal.keys("C-c", "C-d")
    terminal.type("exit 7")
    terminal.keys("Enter")
    assert terminal.exit_code() == 7


def test_a_terminal_of_five_short_lines(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, BODY))
    terminal.until("✓ parses")
    terminal._tmux("resize-window", "-x", "20", "-y", "5")
    terminal.type("def is_prime(n):")
    terminal.until("› def is_prime(n):\n")
    terminal.keys("Enter")
    # While it is drawn anew the prompt stands there alone for a moment.
    ends = ("  ge(2, n))\n", "  e(2, n))\n")
    screen = terminal.until(lambda screen: "›\n" in screen and any(end in screen for end in ends))
    assert "too small" not in screen


def test_help_on_a_small_terminal_breaks_no_word(start: Start, tmp_path: Path) -> None:
    terminal = start(fake(tmp_path, BODY))
    terminal.until("✓ parses")
    terminal._tmux("resize-window", "-x", "44", "-y", "50")
    terminal.type("/help")
    terminal.keys("Enter")
    screen = terminal.until("leave\n")
    words = set(re.findall(r"\S+", screen))
    for command in COMMANDS.values():
        assert set(command.help.split()) <= words, command.help


def test_the_tiny_model_on_a_terminal(start: Start, tmp_path: Path) -> None:
    """Whatever a random model writes, the program parses and the REPL goes on."""
    model = write_tiny_gguf(tmp_path)
    terminal = start(f"{shlex.quote(sys.executable)} -m assistant repl --model {model} --max-tokens 12 --no-ghost")
    terminal.until("tiny · cpu")
    terminal.type("x = 1")
    terminal.keys("Enter")
    terminal.until(lambda screen: "tokens/s" in screen and "✓ parses" in screen)
    terminal.keys("C-c", "C-d")
    assert terminal.exit_code() == 0
    assert "x = 1" in (tmp_path / "home" / "repl_history").read_text()


def test_units_on_a_terminal(start: Start, tmp_path: Path) -> None:
    """The model writes one line, then one expression; /stats says by drafter what it took."""
    model = write_tiny_gguf(tmp_path)
    terminal = start(f"{shlex.quote(sys.executable)} -m assistant repl --model {model} --max-tokens 60 --no-ghost")
    terminal.until("tiny · cpu")
    terminal.type("/unit line")
    terminal.keys("Enter")
    terminal.until(lambda screen: re.search(r"unit +line", screen) is not None)
    terminal.type("x =")
    terminal.keys("Enter")
    terminal.until(lambda screen: "tokens/s" in screen and "✓ parses" in screen)
    terminal.type("/unit expression")
    terminal.keys("Enter")
    terminal.type("y =")
    terminal.keys("Enter")
    terminal.until("› y =")
    terminal.type("/stats")
    terminal.keys("Enter")
    terminal.until(lambda screen: "2, 2 with a valid program" in screen and re.search(r"  \w+ +\d+ passes", screen))
    terminal.type(f"/save {tmp_path}/made.py")
    terminal.keys("Enter")
    terminal.until("saved")
    terminal.keys("C-d")
    assert terminal.exit_code() == 0
    written = ast.parse((tmp_path / "made.py").read_text())
    assert [type(statement) for statement in written.body] == [ast.Assign, ast.Assign]


def test_leaving_while_torch_is_imported(start: Start, tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path)
    terminal = start(
        f"{shlex.quote(sys.executable)} -m assistant --help > /dev/null; "
        f"{shlex.quote(sys.executable)} -m assistant repl --model {model}"
    )
    terminal.until("›")
    terminal.keys("C-d")
    assert terminal.exit_code() == 0


def test_what_is_typed_while_a_model_is_fetched_does_not_stand_in_the_progress(start: Start, tmp_path: Path) -> None:
    with web_server() as web:
        web.usual = Answer(pause=0.2)
        write_own_models(tmp_path / "home", web.url)
        terminal = start(f"{shlex.quote(sys.executable)} -m assistant repl --model small")
        terminal.until("small: ")
        terminal.type("# typed ahead")
        terminal.keys("Enter")
        wait_for(tmp_path / "home" / "models" / "small" / "small.gguf.part")
        time.sleep(0.3)
        assert "typed" not in terminal.screen()
        terminal.keys("C-c")
        assert terminal.exit_code() == 130


def test_misuse_leaves_with_2(start: Start) -> None:
    for wrong in (
        "repl --model no/such.gguf",
        "repl --offline --theme nonesuch",
        "repl --offline no/such.py",
        "--nonsense",
    ):
        terminal = start(f"{shlex.quote(sys.executable)} -m assistant {wrong}")
        assert terminal.exit_code() == 2, wrong
        assert "viable: " in terminal.screen()


def test_a_broken_model_leaves_with_1(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    terminal = start(f"{shlex.quote(sys.executable)} -m assistant repl --model {broken}")
    assert terminal.exit_code() == 1
    assert "viable: " in terminal.screen()
