"""Rules of ``compile`` that hold for a line whatever stands around it: see ``validators.statements``."""

from __future__ import annotations

import unicodedata
from keyword import kwlist

from validators.lexemes import Token
from validators.scopes import Dead

__all__ = ["KEYWORDS", "parts", "patterns", "plain", "stars"]

KEYWORDS = frozenset(kwlist)


def parts(tokens: list[Token]) -> list[list[Token]]:
    """Simple statements of a line, each with the ';' or the line's end behind it."""
    found: list[list[Token]] = [[]]
    for token in tokens:
        found[-1].append(token)
        if token.text == ";" and token.depth == 0:
            found.append([])
    return [part for part in found if part]


def plain(name: str) -> str:
    """The name as the compiler sees it."""
    return name if name.isascii() else unicodedata.normalize("NFKC", name)


def patterns(tokens: list[Token]) -> None:
    """Refuses names that a case binds twice, and two stars in a sequence. Raises Dead."""
    end = next((at for at, token in enumerate(tokens) if token.depth == 0 and token.text in (":", "if")), len(tokens))
    tokens = tokens[:end]
    several = any(token.text == "|" for token in tokens)
    bound, stars = set[str](), [0]
    for at, token in enumerate(tokens):
        before = tokens[at - 1].text if at else ""
        if token.text in ("(", "["):
            stars.append(0)
        elif token.text in (")", "]"):
            stars.pop()
        elif token.text == "*":
            stars[-1] += 1
            if stars[-1] > 1:
                raise Dead(token.start, "multiple starred expressions in sequence pattern")
        elif token.kind == "name" and token.text not in KEYWORDS and token.text != "_" and before != ".":
            after = tokens[at + 1].text if at + 1 < len(tokens) else ""
            if not after or after in (".", "(", "=") or several:
                continue
            if token.text in bound:
                raise Dead(tokens[at + 1].start, f"multiple assignments to name {token.text!r} in pattern")
            bound.add(token.text)


def stars(tokens: list[Token], unfinished: list[Token]) -> None:
    """Refuses starred targets and values in wrong places outside of all brackets. Raises Dead."""
    starred, commas, begins, value = 0, 0, True, tokens[0].text
    starts = True  # an item begins
    if value in ("import", "from", "del", "global", "nonlocal", "assert", "raise", "pass", "type", "@"):
        return
    for token in [*tokens, *(token for token in unfinished if token.text == "=")]:
        if token.depth:
            continue
        if token.text == "*" and starts:
            starred += 1
        elif token.text == ",":
            commas += 1
        elif token.text in (":", "->"):
            return
        elif token.text in ("=", "\n", "\r", "\r\n", ";"):
            end = token.text != "="
            if starred == 1 and not commas:
                why = (
                    "can't use starred expression here"
                    if end
                    else "starred assignment target must be in a list or tuple"
                )
                raise Dead(token.start, why)
            if starred > 1 and not end:
                raise Dead(token.start, "multiple starred expressions in assignment")
            starred, commas, begins = 0, 0, True
        starts = token.text in (",", "=", "return", "yield") or (begins and token.text in ("(",))
        begins = False
