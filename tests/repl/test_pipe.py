"""Continuing standard input."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.errors import ViableError
from assistant.repl.pipe import continue_once, read_program
from tests.repl.fake import FakeSession
from tests.tiny import write_tiny_gguf

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds until a process must have ended."""


class Out(io.BytesIO):
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def continued(program: str, answer: str, out: Out, *, whole_unit: bool = True) -> str:
    continue_once(FakeSession(lambda before: answer), program, out, whole_unit=whole_unit)
    return out.getvalue().decode()


def test_the_program_is_written_with_its_continuation() -> None:
    assert continued("def f():\n", "    return 'ß'\n\n\nf()\n", Out()) == "def f():\n    return 'ß'\n"
    assert continued("def f():\n", "    return 1\n\n\nf()\n", Out(), whole_unit=False).endswith("\n\nf()\n")
    assert continued("x =", " 1", Out()) == "x = 1\n"


def test_control_characters_go_to_files_and_not_to_terminals() -> None:
    assert continued("x = 1\n", "y = '\x1b[2J'\n", Out()) == "x = 1\ny = '\x1b[2J'\n"
    assert continued("x = 1\n", "y = '\x1b[2J'\n", Out(terminal=True)) == "x = 1\ny = '^[[2J'\n"


def test_nothing_is_written_where_nothing_is_valid() -> None:
    out = Out()
    with pytest.raises(ViableError, match="no valid continuation"):
        continued("def f():\n", "    x = (", out)
    assert out.getvalue() == b""


def test_line_ends_are_read_as_one() -> None:
    assert read_program(io.BytesIO(b"a = 1\r\nb = 2\rc = 3\n")) == "a = 1\nb = 2\nc = 3\n"


# --- processes --------------------------------------------------------------------------------------------------


def piped(model: Path, source: bytes, *flags: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "assistant", "repl", "--model", str(model), "--max-tokens", "12", *flags]
    return subprocess.run(command, input=source, capture_output=True, cwd=ROOT, timeout=PATIENCE, check=False)


@pytest.mark.e2e
def test_piped_it_is_plain_text_that_parses(tmp_path: Path) -> None:
    done = piped(write_tiny_gguf(tmp_path), b"def f(x):\r\n    y = x\r\n")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert text.startswith("def f(x):\n    y = x\n")
    assert text.endswith("\n")
    assert "\x1b" not in text
    compile(text, "piped", "exec", flags=0x400)  # ast only


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("source", "code", "said"),
    [(b"", 2, "empty"), (b"x = '\xff'", 1, "not UTF-8"), (b"x = 1\0", 1, "NUL")],
)
def test_piped_bad_input_is_one_line(tmp_path: Path, source: bytes, code: int, said: str) -> None:
    done = piped(write_tiny_gguf(tmp_path), source)
    assert done.returncode == code
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert said in line


@pytest.mark.e2e
def test_without_a_command_it_is_the_repl() -> None:
    done = subprocess.run([sys.executable, "-m", "assistant"], input=b"\n", capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert b"nothing to continue" in done.stderr


@pytest.mark.e2e
def test_piped_ctrl_c_leaves_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "assistant", "repl", "--model", str(write_tiny_gguf(tmp_path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        process.stdin.write(b"x = 1\n" * 100_000)  # more than a pipe holds: it is being read
        process.stdin.flush()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == b"viable: interrupted"
