"""Reading a text that may be broken: broken statements are stepped over and reported, indentation is kept."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Literal

from validators.blocks import Block
from validators.contracts import Problem
from validators.lines import SKIP, Line
from validators.scanner import FORBIDDEN, Scanner

__all__ = ["MARK", "Places", "read"]

MARK = "\ufeff"
"""A byte order mark. At the beginning of a file it belongs to the file, not to the program."""

_LINE_END = re.compile(r"\r\n?|\n")
_BLANK_LINES = re.compile(r"(?:[ \t\f]*(?:#[^\r\n]*)?(?:\r\n?|\n))*")
_WINDOW = 4096  # characters read at first behind a broken line, so that many of them do not cost the square


def read(scanner: Scanner, block: Block, text: str) -> tuple[Line, Block, tuple[Problem, ...]]:
    """The place at the end of ``text``, which begins at the start of a line in ``block``.

    Where the text stops being viable the broken logical line is left out: reading goes on at the physical line in
    which that showed, or behind it if the statement began there. What follows the last line end is left open.
    """
    at = 1 if text.startswith(MARK) else 0
    line, problems, retried, began = scanner.start_line, list[Problem](), -1, at
    size = len(text)
    bad = FORBIDDEN.search(text)
    places = Places(text)
    while at < len(text):
        if bad is not None and bad.start() < at:
            bad = FORBIDDEN.search(text, at)
        limit = min(at + size, bad.start() if bad else len(text))
        scan = scanner.scan(line, block, text[at:limit])
        if scan.began:
            began = at + scan.began
        stop = at + scan.pos + scan.shift
        block = scan.block
        if not scan.refused and stop < len(text) and (bad is None or stop < bad.start()):
            line, at, size = scanner.place(scan), stop, size * 4
            continue
        if not scan.refused and bad is None:
            return scanner.place(scan), block, tuple(problems)
        if retried != stop:
            problems.append(places.problem("left", stop, scan.reason or "source code cannot contain this character"))
        lead = _BLANK_LINES.match(text, began)
        begins = lead.end() if lead else began
        first = _physical(text, stop)
        misplaced = text[max(begins, first) : stop].strip(" \t\f") == "" and retried != stop and scan.refused
        if first > begins or misplaced:
            resume = max(
                first, begins
            )  # a new statement behind an unfinished one, or one that stands in the wrong place
        else:
            end = _LINE_END.search(text, stop)
            if end is None:
                return scanner.line(SKIP, None, scanner.top, "", None), block, tuple(problems)
            resume = end.end()
        retried = stop
        lead = _BLANK_LINES.match(text, resume)
        block = block.recovered(*_columns(text, lead.end() if lead else resume))
        at = began = resume
        line, size = scanner.start_line, _WINDOW
    return line, block, tuple(problems)


class Places:
    """Lines and columns in a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: list[int] | None = None

    def problem(self, side: Literal["left", "right"], offset: int, reason: str) -> Problem:
        if self._starts is None:
            self._starts = [0, *(end.end() for end in _LINE_END.finditer(self._text))]
        line = bisect_right(self._starts, offset)
        return Problem(side, offset, line, offset - self._starts[line - 1] + 1, reason)


def _physical(text: str, offset: int) -> int:
    """Where the physical line begins that ``offset`` is in."""
    return max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1


def _columns(text: str, at: int) -> tuple[int, int]:
    column = tabbed = 0
    while at < len(text) and text[at] in " \t\f":
        if text[at] == "\f":
            column = tabbed = 0
        else:
            column = column + 1 if text[at] == " " else (column // 8 + 1) * 8
            tabbed += 1
        at += 1
    return column, tabbed
