"""The REPL without a terminal: the program comes from standard input and goes, continued, to standard output."""

from __future__ import annotations

from typing import BinaryIO, TextIO

from assistant.completion import Request
from assistant.document import Gap, decode
from assistant.errors import UsageProblem, ViableError
from assistant.repl.contracts import Session
from assistant.repl.turn import Cancel, take_turn


def read_program(stream: BinaryIO) -> str:
    """All of standard input as text, line ends as "\\n". Raises UsageProblem if there is none."""
    text = Gap(decode(stream.read(), "standard input"), "").prefix
    if not text.strip():
        raise UsageProblem("standard input is empty: there is nothing to continue; `viable --help` shows the commands")
    return text


def continue_once(session: Session, program: str, out: TextIO, *, whole_unit: bool) -> None:
    """Write `program` as the model continues it. Raises ViableError, with nothing written, if nothing valid came."""
    cancel = Cancel()
    request = Request(Gap(program, ""))
    turn = take_turn(session, program, request, cancel, lambda text: None, whole_unit=whole_unit)
    completion = turn.completion
    if not completion.valid:
        raise ViableError(completion.reason or f"no valid continuation was found ({completion.finish_reason})")
    text = program + completion.text
    out.write(text if text.endswith("\n") else text + "\n")
    out.flush()
