"""The REPL without a terminal: the program comes from standard input and goes, continued, to standard output."""

from __future__ import annotations

from typing import BinaryIO

from assistant.completion import Cancel, Request
from assistant.document import Gap, decode
from assistant.errors import UsageProblem, ViableError
from assistant.interrupts import read_all
from assistant.repl.contracts import Session
from assistant.repl.turn import take_turn
from assistant.repl.visible import visible


def read_program(stream: BinaryIO) -> str:
    """All of standard input as text, line ends as "\\n". Raises UsageProblem if there is none."""
    text = Gap(decode(read_all(stream), "standard input"), "").prefix
    if not text.strip():
        raise UsageProblem("standard input is empty: there is nothing to continue; `viable --help` shows the commands")
    return text


def continue_once(session: Session, program: str, out: BinaryIO, *, whole_unit: bool, unit: str = "none") -> None:
    """Write `program` as the model continues it, in UTF-8; what acts on terminals is spelled out if `out` is one.

    Raises ViableError, with nothing written, if nothing valid came.
    """
    request = Request(Gap(program, ""), unit=unit)
    turn = take_turn(session, program, request, Cancel(), lambda text: None, whole_unit=whole_unit)
    completion = turn.completion
    if not completion.valid:
        raise ViableError(completion.reason or f"no valid continuation was found ({completion.finish_reason})")
    text = program + completion.text
    text = text if text.endswith("\n") else text + "\n"
    out.write((visible(text) if out.isatty() else text).encode())
    out.flush()
