"""Text cut into tokens, for rules that go by names: what a text that the parser accepts is made of."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Token", "lexemes"]

_TOKEN = re.compile(
    r"[ \t\f]*(?:(?P<str>(?i:[bruft]{0,2})(?:'''|\"\"\"|'|\"))|(?P<name>[^\W\d]\w*)|(?P<num>\.?\d(?:[eE][+-]|[\w.])*)"
    r"|(?P<line>\r\n?|\n)|(?P<comment>\#[^\r\n]*)|(?P<join>\\(?:\r\n|\r|\n)?)"
    r"|(?P<op>\*\*=?|//=?|>>=?|<<=?|\.\.\.|->|:=|[-+*/%@&|^=<>!]=|.))?",
    re.DOTALL,
)


class Token(NamedTuple):
    kind: str
    """"name", "num", "str", "op" or "line": the end of the logical line."""
    text: str
    start: int
    end: int
    depth: int
    """Brackets around it; an opening bracket is outside of itself, a closing one, too."""


def lexemes(text: str, nested: bool, at: int = 0) -> tuple[list[Token], bool]:
    """The tokens of the logical line that begins ``at``, and whether it has ended.

    ``nested``: f-strings hold tokens (3.12 and later).
    What is not closed at the end of the text is left out. Replacement fields are not looked into.
    """
    found: list[Token] = []
    depth, size = 0, len(text)
    while at < size:
        match = _TOKEN.match(text, at)
        kind = match.lastgroup if match else None
        if match is None or kind is None:
            break
        start, end = match.span(kind)
        if kind == "line":
            at = end
            if depth == 0 and found:
                found.append(Token("line", text[start:end], start, end, 0))
                return found, True
            continue
        if kind in ("comment", "join"):
            at = end
            continue
        if kind == "str":
            end = _string_end(text, start, end, nested)
            if end < 0:
                break
        sign = text[start:end]
        if kind == "op" and sign in ")]}":
            depth -= 1
        found.append(Token(kind, sign, start, end, depth))
        if kind == "op" and sign in "([{":
            depth += 1
        at = end
    return found, False


def _string_end(text: str, start: int, at: int, nested: bool) -> int:
    """Behind the string whose opening quotes end at ``at``; -1 where it is open."""
    opening = text[start:at]
    quote = opening.lstrip("bBrRuUfFtT")
    prefix = opening[: -len(quote)].lower()
    size = len(text)
    fields = nested and ("f" in prefix or "t" in prefix)
    while at < size:
        if text.startswith(quote, at):
            return at + len(quote)
        here = text[at]
        if here == "\\":
            at += 2
        elif fields and here == "{":
            if text.startswith("{", at + 1):
                at += 2
                continue
            at = _field_end(text, at + 1)
            if at < 0:
                return -1
        else:
            at += 1
    return -1


def _field_end(text: str, at: int) -> int:
    """Behind the '}' of a replacement field; -1 where it is open."""
    depth, size, code = 0, len(text), True
    while at < size:
        match = _TOKEN.match(text, at) if code else None
        kind = match.lastgroup if match else None
        if match is not None and kind == "str":
            start, end = match.span(kind)
            at = _string_end(text, start, end, True)
            if at < 0:
                return -1
            continue
        if match is not None and kind in ("name", "num", "comment"):
            at = match.end()
            continue
        here = text[at]
        at += 1
        if here == "}" and depth == 0:
            return at
        if not code:
            if here == "{":
                at = _field_end(text, at)
                if at < 0:
                    return -1
        elif here in "([{":
            depth += 1
        elif here in ")]}":
            depth -= 1
        elif depth == 0 and (here == ":" or (here == "!" and not text.startswith("=", at))):
            code = here != ":"  # behind a conversion nothing but ':' or '}' can come
    return -1
