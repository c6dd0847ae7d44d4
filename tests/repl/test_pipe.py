"""Continuing standard input."""

from __future__ import annotations

import io

import pytest

from assistant.errors import ViableError
from assistant.repl.pipe import continue_once, read_program
from tests.repl.fake import FakeSession


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
