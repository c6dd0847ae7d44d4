"""Where a text stops being Python."""

from __future__ import annotations

import io
import tokenize
from typing import Any, Literal, NamedTuple

from assistant.document import Gap, NotSource, decode
from assistant.judge import refusal
from validators.contracts import Validator


class Finding(NamedTuple):
    """Why a text is not valid."""

    kind: Literal["invalid", "unfinished", "unreadable"]
    """`invalid`: nothing that may follow makes it valid. `unfinished`: something would. `unreadable`: it is no text."""
    line: int
    """Of the first place from which nothing valid can follow, or of the end; from 1."""
    column: int
    """In characters, from 1."""
    reason: str
    closing: str | None = None
    """A text that would finish what is unfinished, where one is known."""


def examine(text: str, validator: Validator[Any], *, running: bool = True, level: str = "syntax") -> Finding | None:
    """The first thing that is wrong with a text, or None.

    `running` says that the validator's Python is the one that runs: its parser is then asked first, and has the last
    word, should the two ever disagree. `level` is the validator's.
    """
    complaint = refusal(text, level) if running else None
    if running and complaint is None:
        return None
    end = Gap(text, "")
    state = validator.start(end.prefix)
    for problem in validator.problems(state):
        return Finding("invalid", problem.line, problem.column, problem.reason)
    _, _, because = (complaint or "::").split(":", 2)
    if not validator.complete(state):
        closing = validator.closing(state)
        known = (
            f", could be closed by {closing!r}" if closing is not None else f" ({because.strip()})" if because else ""
        )
        return Finding("unfinished", *end.position, f"unexpected end of file{known}", closing)
    if complaint is None:
        return None
    line, column, _ = complaint.split(":", 2)
    return Finding("invalid", int(line), int(column), because.strip())


def read_source(data: bytes, name: str) -> str:
    """The text of a source file in the encoding that it declares (PEP 263), UTF-8 by default. Raises NotSource."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        decode(data, name)
        raise NotSource(name, 1, 1, str(error.msg)) from None
    return decode(data, name, encoding)
