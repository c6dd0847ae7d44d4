"""f-strings before Python 3.12: strings whose fields are parsed one by one (CPython 3.11, Parser/string_parser.c)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_LAMBDA = re.compile(r"(?<!\w)lambda\W")


class Place(NamedTuple):
    """Where an open f-string ends."""

    depth: int
    """Replacement fields that are open, format specifications among them."""
    field: int
    """Where the innermost field's `{` is, if its expression may still go on; otherwise -1."""
    ended: bool
    """May the expression have ended already?"""


def refusal(
    text: str,
    prefix: str,
    quote: str,
    any_parses: Callable[[str, str], str | None],
    expression: Callable[[str], str | None],
) -> str | None:
    """Why the open f-string `text` cannot be ended; None if it can.

    `any_parses(text, closers)` says why no growth of the last character and these closers make a literal of `text`,
    `expression(text)` why nothing can follow that makes `text` an expression in brackets.
    """
    place = _place(text, len(prefix) + len(quote), "r" in prefix.lower())
    complaint = None
    if place.ended:
        complaint = any_parses(text, "}" * place.depth + quote)
        if complaint is None or place.field < 0:
            return complaint
    before = any_parses(text[: place.field], "}" * (place.depth - 1) + quote)
    inside = text[place.field + 1 :]
    if before is not None:
        return before
    if place.depth > 2:
        return "f-string: expressions nested too deeply"
    if "\\" in inside:
        return "f-string expression part cannot include a backslash"
    code = _outside_strings(inside)
    if "#" in code:
        return "f-string expression part cannot include '#'"
    if _unmatched(code):
        return "f-string: unmatched bracket"
    if _LAMBDA.search(_outside_brackets(code)):
        return "f-string: a lambda needs parentheses"
    return expression("(" + inside)


def _outside_strings(text: str) -> str:
    """`text` with each string in it replaced by a blank."""
    parts, at = [], 0
    while at < len(text):
        here = text[at]
        if here in "'\"":
            at, here = _string_end(text, at), " "
        else:
            at += 1
        parts.append(here)
    return "".join(parts)


def _unmatched(text: str) -> bool:
    depth = 0
    for here in text:
        depth += (here in "([{") - (here in ")]}")
        if depth < 0:
            return True
    return False


def _outside_brackets(text: str) -> str:
    parts, depth = [], 0
    for here in text:
        depth += (here in "([{") - (here in ")]}")
        parts.append(here if depth == 0 else " ")
    return "".join(parts)


def _string_end(text: str, at: int) -> int:
    """Behind the string that begins at `at`; the length of `text` if it is open."""
    quote = text[at] * 3 if text.startswith(text[at] * 3, at) else text[at]
    closed = text.find(quote, at + len(quote))
    return len(text) if closed < 0 else closed + len(quote)


def _place(text: str, at: int, raw: bool) -> Place:
    depth = 0
    while at < len(text):
        here = text[at]
        if here == "\\" and not raw:
            if text.startswith("\\N{", at):
                closed = text.find("}", at)
                at = len(text) if closed < 0 else closed + 1
                continue
            at += 1
            here = text[at : at + 1]
            if here not in ("{", "}"):
                at += 1
                continue
        if depth == 0 and here in "{}" and text.startswith(here, at + 1):
            at += 2
        elif here == "}":
            depth = max(depth - 1, 0)
            at += 1
        elif here == "{":
            field = at
            at = _expression_end(text, at + 1)
            ended = at < len(text)
            if at >= len(text) - 1 and text[at : at + 1] in ("", "=", "!"):
                return Place(depth + 1, field, ended)
            if text[at] == "=":
                at += 1
                while text[at : at + 1].isspace():
                    at += 1
            if text.startswith("!", at):
                at += 2
            if at >= len(text):
                return Place(depth + 1, -1, True)
            if text[at] not in ":}":
                return Place(depth + 1, -1, True)
            depth += text[at] == ":"
            at += 1
        else:
            at += 1
    return Place(depth, -1, True)


def _expression_end(text: str, at: int) -> int:
    """The character that ends the expression of a field: one of `=!:}`. The length of `text` if there is none."""
    nested = 0
    while at < len(text):
        here = text[at]
        if here in "'\"":
            at = _string_end(text, at)
            continue
        if nested == 0 and here in "=!<>" and text.startswith("=", at + 1):
            at += 2
            continue
        if nested == 0 and here in "=!:}":
            return at
        nested += (here in "([{") - (here in ")]}")
        at += 1
    return at
