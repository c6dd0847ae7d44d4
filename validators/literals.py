"""What may stand inside literals: numbers, string prefixes, escapes. After CPython's Parser/lexer and string_parser."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache

from validators.characters import Characters

__all__ = [
    "NUMBER_RUN",
    "TRIPLE",
    "StringKind",
    "escape",
    "finish_escape",
    "number_end",
    "plain_digits",
    "shorten",
    "string_kind",
]

# The longest text that is a number or can still become one.
NUMBER_RUN = re.compile(
    r"0[xX](?:_?[0-9a-fA-F])*_?|0[oO](?:_?[0-7])*_?|0[bB](?:_?[01])*_?"
    r"|(?:[0-9](?:_?[0-9])*(?:_(?![0-9])|(?:\.(?:[0-9](?:_?[0-9])*(?:_(?![0-9]))?)?)?)"
    r"|\.[0-9](?:_?[0-9])*(?:_(?![0-9]))?)"
    r"(?:(?<!_)(?:[eE][+-]?(?:[0-9](?:_?[0-9])*(?:_(?![0-9]))?)?)?(?:(?<=[0-9.])[jJ])?)?"
)
_ZEROS = re.compile(r"0[0_]*\Z")
_OLD_OCTAL = re.compile(r"0[0_]*[1-9][0-9_]*\Z")
_DECIMAL = re.compile(r"[0-9_]+\Z")
_LONG_RUN = re.compile(r"(?<=[0-9]{4})[0-9]+(?=[0-9]{4})")
_LONG_HEX_RUN = re.compile(r"(?<=[0-9a-fA-F]{4})[0-9a-fA-F]+(?=[0-9a-fA-F]{4})")  # elsewhere 'e' is no digit
_MOST_DIGITS = 4300  # sys.int_info.default_max_str_digits; a longer decimal integer is refused by ast.parse
# Digits that make no difference to what may follow them.
_PLAIN_DIGITS = (
    (re.compile(r"\A(?:[0-9](?:_?[0-9])*)?\.[0-9](?:_?[0-9])*(?![0-9])"), "1.1"),
    (re.compile(r"\A[0-9](?:_?[0-9])*\.(?![0-9])"), "1."),
    (re.compile(r"\A[1-9](?:_?[0-9])*(?![0-9])"), "1"),
    (re.compile(r"\A0(?:_?0)+\Z"), "00"),
    (re.compile(r"\A0(?:_?0)*_?[1-9](?:_?[0-9])*\Z"), "01"),
)


def number_end(run: str) -> int:
    """Where the number ends in ``run``, which the next character cannot lengthen; -1 where no number ends there."""
    last = run[-1]
    if run[:2].lower() in ("0x", "0o", "0b"):
        return -1 if last == "_" or len(run) == 2 else len(run)
    if last in "eE":  # of 'else': that there are too many zeros before it is looked at without an exponent alone
        return len(run) - 1 if _OLD_OCTAL.match(run[:-1]) and run[-2] != "_" else number_end(run[:-1])
    if last in "_+-" or _OLD_OCTAL.match(run):
        return -1
    digits = run.replace("_", "") if len(run) > _MOST_DIGITS and _DECIMAL.match(run) else ""
    if len(digits) > _MOST_DIGITS and not _ZEROS.match(run):
        return -1
    return len(run)


def plain_digits(part: str) -> str:
    """One of few unfinished numbers behind which the same may follow."""
    for digits, plain in _PLAIN_DIGITS:
        part = digits.sub(plain, part)
    return part


def shorten(run: str) -> str:
    """A number that is still being typed, cut where its further digits make no difference."""
    limit = _MOST_DIGITS + 1
    if len(run) > 2 and run[0] == "0" and _DECIMAL.match(run):
        return ("00" if _ZEROS.match(run) else "01") + "_" * (run[-1] == "_")
    if _DECIMAL.match(run):
        return run if len(run) <= limit else run.replace("_", "")[:limit]
    return (_LONG_HEX_RUN if run[:2] in ("0x", "0X") else _LONG_RUN).sub("", run)


# In ``StringKind.closed``: three of these quotes in a row end an enclosing f-string. No source text holds surrogates.
TRIPLE = {'"': "\ud800", "'": "\ud801"}


@dataclass(frozen=True, eq=False)
class StringKind:
    """How a string is written. Use ``string_kind``, which returns the same object for the same kind."""

    quote: str
    triple: bool
    raw: bool
    bytes: bool
    formatted: bool
    template: bool
    closed: str  # quotes, newline, backslash of enclosing f-strings that must not occur (before 3.12)
    barred: bool  # three quotes of its own in a row are kept out of it and of what touches it
    outer: str  # the other quote, where three of those in a row would end an enclosing f-string
    run: re.Pattern[str]  # characters that mean nothing but themselves


@cache
def string_kind(prefix: str, quote: str, triple: bool, closed: str = "") -> StringKind:
    letters = prefix.lower()
    formatted = "f" in letters or "t" in letters
    stops = "\\\\" + quote + ("" if triple else "\r\n") + ("{}" if formatted else "")
    outer = "".join(sign for sign, mark in TRIPLE.items() if mark in closed and sign != quote)
    stops += re.escape(closed) + outer
    if "b" in letters:
        stops += "\x80-\U0010ffff"
    return StringKind(
        quote,
        triple,
        "r" in letters,
        "b" in letters,
        formatted,
        "t" in letters,
        closed,
        TRIPLE[quote] in closed,
        outer,
        re.compile(f"[^{stops}]+"),
    )


_HEX = {"x": 2, "u": 4, "U": 8}
_HEX_RUN = re.compile("[0-9a-fA-F]*")
_NAME_RUN = re.compile("[A-Za-z0-9 ()-]*")
_LONGEST_NAME = 120


def escape(kind: StringKind, text: str, known: Characters) -> tuple[int, bool]:
    """Reads the escape that ``text`` begins with (at its backslash). ``known``: the names of characters.

    Returns the number of characters that are right and whether the escape is finished by them. Where it is not
    finished and characters are left, the next one is wrong.
    """
    if len(text) < 2:
        return 1, False
    letter = text[1]
    if kind.bytes and letter > "\x7f":
        return 1, False
    if letter == "\r":
        return (3, True) if text[2:3] == "\n" else (2, len(text) > 2)
    if kind.raw or letter not in _HEX or (kind.bytes and letter != "x"):
        if letter == "N" and not kind.raw and not kind.bytes:
            return _named(text, known)
        return 2, True
    wanted = _HEX[letter]
    match = _HEX_RUN.match(text, 2, 2 + wanted)
    digits = match[0] if match else ""
    if letter == "U":  # the largest code point is 10FFFF
        for length in range(1, len(digits) + 1):
            if int(digits[:length].ljust(8, "0"), 16) > sys.maxunicode:
                return 1 + length, False
    return 2 + len(digits), len(digits) == wanted


def _named(text: str, known: Characters) -> tuple[int, bool]:
    if text[2:3] != "{":
        return 2, False
    match = _NAME_RUN.match(text, 3, 3 + _LONGEST_NAME)
    end = match.end() if match else 3
    if text[end : end + 1] == "}" and known.named(text[3:end]):
        return end + 1, True
    while end > 3 and known.ending(text[3:end]) is None:
        end -= 1
    return end, False


def finish_escape(part: str, known: Characters) -> str | None:
    """What is missing of an escape that is still being typed; None where no character's name begins so."""
    letter = part[1:2]
    if letter == "":
        return "n"
    if letter == "\r":
        return "\n"
    if letter in _HEX:
        return "0" * (2 + _HEX[letter] - len(part))
    if part[2:3] != "{":
        return "{DIGIT ONE}"
    rest = known.ending(part[3:])
    return None if rest is None else rest + "}"
