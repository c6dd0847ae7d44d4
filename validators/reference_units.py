"""Where a piece of a program ends that was open at the cursor, for the reference validator."""

from __future__ import annotations

import re

from validators.contracts import Unit
from validators.reference_judge import judge
from validators.reference_lines import scan
from validators.reference_outline import Outline, columns, split

_DEF = re.compile(r"(?:async[ \t\f]+)?def\b")
_CONTINUES = ("elif", "else", "except", "finally")
_ENDS = re.compile(r"[,;:)\]}=\r\n#]")


def unit_end(outline: Outline, line: str, text: str, unit: Unit) -> bool:
    """Has `text` closed the unit that was open behind `outline` and the open line `line`?

    An expression is closed by what cannot belong to it, a line by its newline, a statement by its newline or a
    semicolon; one with blocks, a block and a function by the first character of a line that no longer belongs to it.
    """
    if unit == "line":
        return "\n" in text or "\r" in text
    if unit == "expression":
        return _expression_end(line, text)
    owner: tuple[int, int] | None = None
    if unit == "function":
        owner = max((level.width for level in outline.levels if _is_def(level.statement)), default=None)
    rest, first = line + text, True
    while True:
        found = scan(rest)
        logical = rest[: found.end] if found.end >= 0 else rest
        indentation, code = split(logical)
        width = columns(indentation)
        if found.first >= 0:
            if first and unit != "function":
                owner, first = width, False
                if unit == "statement" and _semicolon(logical, len(line)):
                    return True
            elif owner is not None and _leaves(unit, width, owner, code):
                return True
            if unit == "function" and owner is None and _is_def(logical):
                owner = width
            if found.end >= 0:
                outline = outline.after(logical)
                whole = judge(outline.text + indentation + "pass\n") is None
                if unit == "statement" and width == owner and whole and not _opens_block(code):
                    return True
        if found.end < 0:
            return False
        rest = rest[found.end :]


def _is_def(statement: str) -> bool:
    lines = statement.rstrip("\n").split("\n")
    return any(_DEF.match(each.lstrip(" \t\f")) for each in lines)


def _leaves(unit: Unit, width: tuple[int, int], owner: tuple[int, int], code: str) -> bool:
    if unit == "block":
        return width < owner
    if unit == "function":
        return width <= owner
    word = re.match(r"\w*", code)
    assert word is not None
    continues = any(each == word[0] or (word[0] == code and each.startswith(code)) for each in _CONTINUES)
    return width <= owner and not continues


def _opens_block(code: str) -> bool:
    return code.startswith("@") or code.split("#")[0].rstrip().endswith(":")


def _semicolon(logical: str, begin: int) -> bool:
    """Does a `;` outside brackets and strings follow the cursor?"""
    return any(
        logical[at] == ";" and not scan(logical[:at]).stack and scan(logical[: at + 1]).kind == "operator"
        for at in range(begin, len(logical))
    )


def _expression_end(line: str, text: str) -> bool:
    """Is there a character in `text` that closes a bracket of `line`, or separates, outside what `text` opened?"""
    depth = len(scan(line).stack)
    for at, character in enumerate(text):
        if not _ENDS.match(character):
            continue
        before, after = scan(line + text[:at]), scan(line + text[: at + 1])
        if before.end >= 0 or len(after.stack) < depth:
            return True
        inside = before.kind in ("string", "text", "comment") or after.kind in ("string", "text")
        if len(before.stack) <= depth and not inside and len(after.stack) <= depth:
            return bool(text[:at].strip())
    return False
