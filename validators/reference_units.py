"""Where a piece of a program ends that was open at the cursor, for the reference validator."""

from __future__ import annotations

import re

from validators.contracts import Unit
from validators.reference_judge import judge
from validators.reference_lines import Scan, scan
from validators.reference_outline import Level, Outline, columns, split

_DEF = re.compile(r"(?:async[ \t\f]+)?def\b")
_CONTINUES = ("elif", "else", "except", "finally")
_ASSIGNS = re.compile(r"(?<![=<>!:])=\Z")
_ENDS = re.compile(r"[,;:)\]}\r\n]")


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
        owner = max((level.width for level in _around(outline, line) if _is_def(level.statement)), default=None)
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


def _around(outline: Outline, line: str) -> tuple[Level, ...]:
    """The statements whose blocks the open line is in. While it is blank: those whose blocks are open."""
    indentation, code = split(line)
    if code:
        return tuple(level for level in outline.levels if level.width < columns(indentation))
    *outer, last = (None, *outline.levels)
    opened = last is not None and _opens_block(last.statement.rstrip("\n").split("\n")[-1].strip())
    return tuple(level for level in (*outer, last if opened else None) if level is not None)


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
    depth = _depth(scan(line))
    for at, character in enumerate(text):
        assigned = at > 0 and character != "=" and _ASSIGNS.search(text[:at]) is not None
        if not assigned and not _ENDS.match(character):
            continue
        before, after = scan(line + text[:at]), scan(line + text[: at + 1])
        if before.end >= 0 or _depth(after) < depth:
            return True
        inside = before.kind in ("string", "text", "comment") or (not assigned and after.kind in ("string", "text"))
        if _depth(before) <= depth and not inside and (assigned or _depth(after) <= depth):
            return bool(text[:at].strip())
    return False


def _depth(found: Scan) -> int:
    """Brackets and replacement fields that are open."""
    return sum(frame.kind not in ("text", "spec") for frame in found.stack)
