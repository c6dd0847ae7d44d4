"""Columns as editors count them: in the code units of UTF-8, UTF-16 or UTF-32.

The server works in characters. Which units the client counts in is agreed on once, in `initialize`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Literal

Encoding = Literal["utf-8", "utf-16", "utf-32"]


def _utf8(character: str) -> int:
    code = ord(character)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4


def _utf16(character: str) -> int:
    return 1 if ord(character) < 0x10000 else 2


def _utf32(character: str) -> int:
    return 1


_WIDTHS: dict[Encoding, Callable[[str], int]] = {"utf-8": _utf8, "utf-16": _utf16, "utf-32": _utf32}
"""Encoding -> code units of one character."""


def agreed(offered: Iterable[str]) -> Encoding:
    """The client's best one that is known here; UTF-16, which every client knows, where there is none."""
    known: dict[str, Encoding] = {each: each for each in _WIDTHS}
    return next((known[each] for each in offered if each in known), "utf-16")


def to_units(line: str, column: int, encoding: Encoding) -> int:
    """Code units before character `column` of a line."""
    before = line[:column]
    return len(before) if before.isascii() else sum(map(_WIDTHS[encoding], before))


def from_units(line: str, units: int, encoding: Encoding) -> int:
    """The character that begins at or holds code unit `units` of a line; the line's length where it is shorter."""
    if line.isascii():
        return min(units, len(line))
    return bisect_right(list(accumulate(map(_WIDTHS[encoding], line))), units)
