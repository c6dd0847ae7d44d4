"""Closing a gap: a short text that joins what stands left of the cursor to what stands right of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from validators.blocks import Block, tail
from validators.closing import Closer, indentation
from validators.lines import CODE, COMMENT, STRING, Line
from validators.literals import string_kind
from validators.right import Right
from validators.scanner import Scanner

__all__ = ["close_gap"]

_MOST_SKELETONS = 400
_MOST_BEGINNINGS = 16
_MOST_COLUMNS = 6
_READ = 20_000  # characters of the right-hand text that are looked at for its indentations
_LINES = re.compile(r"(?:\A(?=[ \t])|[\r\n])([ \t]*)(else|elif|except|finally|case)?(?=[^\s#])")
_HEADERS = {"else": "if x:", "elif": "if x:", "except": "try:", "finally": "try:", "case": "match x:"}
# What a statement can begin with so that almost any rest may follow, before brackets and quotes.
_STATEMENTS = (
    "", "x = ", "x", "def x", "class x", "for x in ", "if ", "if x", "with ", "for ", "def ", "class ", "return ", "x.",
    "@", "import ", "from ", "from x import ", "while ", "lambda ", "not ", "x = lambda ", "def x() -> ", "with x as ",
)  # fmt: skip
_QUOTES = ('"', "'", '"""', "'''")


def close_gap(scanner: Scanner, closer: Closer, right: Right, line: Line, block: Block) -> str | None:
    """The first text found after which ``right`` completes the program; the natural ones are tried first."""

    def joins(place: Line, inside: Block, text: str) -> bool:
        accepted, after, within, _ = scanner.run(place, inside, text)
        return accepted == len(text) and right.complete(after, within)

    ending = closer.ending(line, block)
    if ending is None:
        return None
    for end in range(len(ending) + 1):
        for text in (ending[:end], ending[:end] + "\n"):
            if joins(line, block, text):
                return text
    ending += "\n"
    _, fresh, closed, _ = scanner.run(line, block, ending)
    beginnings = ["", *_beginnings(scanner, right.text)]
    tried: set[tuple[Line, Block]] = set()
    for skeleton in _skeletons(closed, right.text):
        accepted, place, inside, _ = scanner.run(fresh, closed, skeleton)
        if accepted < len(skeleton) or (place, inside) in tried:
            continue
        tried.add((place, inside))
        for beginning in beginnings:
            if joins(place, inside, beginning):
                return ending + skeleton + beginning
        if len(tried) > _MOST_SKELETONS:
            break
    return None


def _beginnings(scanner: Scanner, text: str) -> list[str]:
    """Beginnings of a line that the first line of ``text`` can be the rest of."""
    node, wild, found = scanner.anywhere, scanner.wild, list[str]()
    entries = [("", scanner.line(CODE, node, wild, "", None)), ("#", scanner.line(COMMENT, node, wild, "", None))]
    for quote in _QUOTES:
        kind = string_kind("r", quote[0], len(quote) == 3)
        entries.append((quote, scanner.line(STRING, node, wild, "", kind)))
        literal = wild.push("f", string_kind("rf", quote[0], len(quote) == 3), scanner.nested)
        field = scanner.line(CODE, node, literal.push("r", None, scanner.nested), "", None)
        entries.append((f"f{quote}{{", field))
    for opener, entry in entries:
        scan = scanner.scan(entry, tail(), text[:_READ])
        if scan.pos + scan.shift == 0:
            continue
        for statement in _STATEMENTS:
            beginning = statement + scan.missing + opener
            first = scanner.scan(scanner.start_line, tail(), beginning + text[:_READ], once=True)
            if not first.refused and (first.began or len(text) < _READ) and beginning not in found:
                found.append(beginning)
                if len(found) >= _MOST_BEGINNINGS:
                    return found
    return found


def _skeletons(block: Block, text: str) -> Iterator[str]:
    """Lines and blanks that open the blocks which ``text`` goes on with, using more or less of those that are open."""
    for indent in _columns(block):
        yield indent
    steps: list[tuple[str, str]] = []  # ever smaller indentations of the lines of the text, and what partner they need
    for match in _LINES.finditer(text[:_READ]):
        indent, word = match[1], match[2] or ""
        if not steps or len(indent) < len(steps[-1][0]):
            steps.append((indent, _HEADERS.get(word, "")))
        elif indent == steps[-1][0] and word and not steps[-1][1]:
            steps[-1] = (indent, _HEADERS[word])
        if len(steps) >= _MOST_COLUMNS or not indent:
            break
    steps.reverse()
    lead = len(text) - len(text.lstrip(" \t"))
    for used in range(len(steps) + 1):  # of these the left-hand text has opened the outer ones
        for outer in ("", "if x:\n"):
            for depth in range(used, len(steps) + 1):
                lines = outer
                for indent, header in steps[used:depth]:
                    lines += f"{indent}{header or 'if x:'}\n"
                inside = steps[depth][0] if depth < len(steps) else (steps[-1][0] if steps else "") + "    "
                yield lines
                yield lines + inside
                if lead:  # the text begins in the middle of a line's blanks
                    yield lines + inside[lead:]
                    yield f"{lines}{inside}pass\n{steps[depth - 1][0][lead:] if depth else ''}"
                yield f"{lines}{inside}pass\n"
                yield f"{lines}{inside}case x:"


def _columns(block: Block) -> list[str]:
    """The indentations of the blocks that are open, innermost first."""
    found: list[str] = []
    each: Block | None = block
    while each is not None:
        text = indentation(each.column, each.tabbed)
        if text is not None:
            found.append(text)
        each = each.parent
    return found
