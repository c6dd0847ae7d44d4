"""What may stand inside literals: numbers, string prefixes, escapes. After CPython's Parser/lexer and string_parser."""

from __future__ import annotations

import re
import sys
import unicodedata
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

from validators.aliases import ALIASES, NEWEST

__all__ = ["NUMBER_RUN", "TRIPLE", "StringKind", "escape", "finish_escape", "number_end", "shorten", "string_kind"]

# The longest text that is a number or can still become one.
NUMBER_RUN = re.compile(
    r"0[xX](?:_?[0-9a-fA-F])*_?|0[oO](?:_?[0-7])*_?|0[bB](?:_?[01])*_?"
    r"|(?:[0-9](?:_?[0-9])*(?:_(?![0-9])|(?:\.(?:[0-9](?:_?[0-9])*(?:_(?![0-9]))?)?)?)"
    r"|\.[0-9](?:_?[0-9])*(?:_(?![0-9]))?)"
    r"(?:(?<!_)(?:[eE][+-]?(?:[0-9](?:_?[0-9])*(?:_(?![0-9]))?)?)?(?:(?<=[0-9.])[jJ])?)?"
)
_OLD_OCTAL = re.compile(r"0[0_]*[1-9][0-9_]*\Z")
_DECIMAL = re.compile(r"[0-9_]+\Z")
_LONG_RUN = re.compile(r"(?<=[0-9a-fA-F]{4})[0-9a-fA-F]+(?=[0-9a-fA-F]{4})")
_MOST_DIGITS = 4300  # sys.int_info.default_max_str_digits; a longer decimal integer is refused by ast.parse


def number_end(run: str) -> int:
    """Where the number ends in ``run``, which the next character cannot lengthen; -1 where no number ends there."""
    last = run[-1]
    if run[:2].lower() in ("0x", "0o", "0b"):
        return -1 if last == "_" or len(run) == 2 else len(run)
    if last in "eE":
        return number_end(run[:-1])
    if last in "_+-" or _OLD_OCTAL.match(run):
        return -1
    if len(run) > _MOST_DIGITS and _DECIMAL.match(run) and len(run.replace("_", "")) > _MOST_DIGITS:
        return -1
    return len(run)


def shorten(run: str) -> str:
    """A number that is still being typed, cut where its further digits make no difference."""
    limit = _MOST_DIGITS + 1
    if _DECIMAL.match(run):
        return run if len(run) <= limit else run.replace("_", "")[:limit]
    return _LONG_RUN.sub("", run)


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
    run: re.Pattern[str]  # characters that mean nothing but themselves


@cache
def string_kind(prefix: str, quote: str, triple: bool, closed: str = "") -> StringKind:
    letters = prefix.lower()
    formatted = "f" in letters or "t" in letters
    stops = "\\\\" + quote + ("" if triple else "\r\n") + ("{}" if formatted else "")
    stops += re.escape(closed)
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
        re.compile(f"[^{stops}]+"),
    )


_HEX = {"x": 2, "u": 4, "U": 8}
_HEX_RUN = re.compile("[0-9a-fA-F]*")
_NAME_RUN = re.compile("[A-Za-z0-9 ()-]*")
_LONGEST_NAME = 120


def escape(kind: StringKind, text: str) -> tuple[int, bool]:
    """Reads the escape that ``text`` begins with (at its backslash).

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
            return _named(text)
        return 2, True
    wanted = _HEX[letter]
    match = _HEX_RUN.match(text, 2, 2 + wanted)
    digits = match[0] if match else ""
    if letter == "U":  # the largest code point is 10FFFF
        for length in range(1, len(digits) + 1):
            if int(digits[:length].ljust(8, "0"), 16) > sys.maxunicode:
                return 1 + length, False
    return 2 + len(digits), len(digits) == wanted


def _named(text: str) -> tuple[int, bool]:
    if text[2:3] != "{":
        return 2, False
    match = _NAME_RUN.match(text, 3, 3 + _LONGEST_NAME)
    end = match.end() if match else 3
    if text[end : end + 1] != "}":
        while end > 3 and not _begins_name(text[3:end].upper()):
            end -= 1
        return end, False
    try:
        found = len(unicodedata.lookup(text[3:end])) == 1  # a named sequence is no character
    except KeyError:
        found = False
    if found:
        return end + 1, True
    while end > 3 and not _begins_name(text[3:end].upper()):
        end -= 1
    return end, False


def finish_escape(part: str) -> str | None:
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
    begun = part[3:].upper()
    names = _names()
    at = bisect_left(names, begun)
    if at < len(names) and names[at].startswith(begun):
        return names[at][len(begun) :] + "}"
    for zeros in range(_HEX["U"]):  # CJK ideographs and the like are named by their code points
        try:
            unicodedata.lookup(begun + "0" * zeros)
        except KeyError:
            continue
        return "0" * zeros + "}"
    return None


# Beginnings of names that are made by a rule: too many to list.
_RULED = (
    "CJK UNIFIED IDEOGRAPH-",
    "CJK COMPATIBILITY IDEOGRAPH-",
    "HANGUL SYLLABLE ",
    "KHITAN SMALL SCRIPT CHARACTER-",
    "NUSHU CHARACTER-",
    "TANGUT IDEOGRAPH-",
)


def _begins_name(begun: str) -> bool:
    """Whether a character may have a name that begins so."""
    if unicodedata.unidata_version > "{}.{}.9".format(*NEWEST):
        return True  # there may be aliases that are not in the list
    names = _names()
    at = bisect_left(names, begun)
    return (at < len(names) and names[at].startswith(begun)) or begun.startswith(_RULED)


@cache
def _names() -> list[str]:
    """The names of all characters, sorted; of those that are made by a rule the first. 3 MB, made when first needed."""
    names, ruled = set(ALIASES), set[str]()
    for point in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(point), "")
        if name.startswith(_RULED):
            family = name.rpartition("-")[0] or "HANGUL"
            if family in ruled:
                continue
            ruled.add(family)
        names.add(name)
    names.discard("")
    return sorted(names)
