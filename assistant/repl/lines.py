"""What the REPL knows of Python's lines while they are typed: indentation, and where a line or a unit ends.

These are comforts of typing. Whether a program is valid is never decided here.
"""

from __future__ import annotations

import io
import re
import token
import tokenize
from collections.abc import Iterator

from assistant.judge import refusal

INDENT = 4
"""Columns of one level."""

HEADS = frozenset(
    ("async", "case", "class", "def", "elif", "else", "except", "finally", "for", "if", "match", "try", "while", "with")
)
"""First words of lines that a colon ends and a block follows."""

CONTINUING = frozenset(["elif", "else", "except", "finally"])
"""First words that go on with a statement begun at the same indentation."""

LEAVING = frozenset(["break", "continue", "pass", "raise", "return"])
"""First words of statements after which a block has nothing more to do."""

_WORD = re.compile(r"\s*(\w+)")


def indentation(line: str) -> str:
    """The white space that `line` begins with."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def first_word(line: str) -> str:
    """The word that `line` begins with, or ""."""
    match = _WORD.match(line)
    return match[1] if match else ""


def is_open(text: str) -> bool:
    """Does `text` end inside brackets or a long string, or after a backslash, so that its line goes on?"""
    if text.endswith("\\"):
        return True
    depth = 0
    try:
        for item in _tokens(text):
            if item.type == token.OP:
                depth += (item.string in "([{") - (item.string in ")]}")
    except tokenize.TokenError as error:
        if "triple-quoted" in str(error) or "multi-line string" in str(error):
            return True
    except SyntaxError:
        return False
    return depth > 0


def may_end(text: str) -> bool:
    """May the last line of `text` end here, as far as that line alone can tell?

    Where it may not (`x =`, `for i in`, `def f(`), the model is asked to go on with the same line.
    """
    if is_open(text):
        return False
    line = text.rstrip().rpartition("\n")[2].strip()
    if line.endswith(":") and first_word(line) in HEADS:
        return True
    return any(refusal(candidate) is None for candidate in (line, text.strip(), f"{line}\ndef _(): pass"))


def next_indent(text: str) -> str:
    """The white space that the line after `text` should begin with."""
    last = text.rstrip(" \t").rpartition("\n")[2]
    indent = indentation(last)
    code = last.split("#")[0].rstrip()
    if code.endswith((":", "(", "[", "{")):
        return indent + " " * INDENT
    if first_word(last) in LEAVING and not is_open(text):
        return indent[:-INDENT]
    return indent


def unit_end(before: str, text: str) -> int | None:
    """Where the unit that `text` continues or begins is over, as an offset into `text`; None while it goes on.

    A unit is what one would ask for at once: the rest of a block whose head ends `before`, or a paragraph of
    statements. It is over where a line begins that stands no deeper than the last line of `before` and comes after a
    blank line, after deeper lines, or further left, or is a comment after code; and where the program up to that line
    parses.
    """
    written = before.rstrip().rpartition("\n")[2]
    level = len(indentation(written))
    previous, blank, code = level, False, False
    offset = 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        if not line.strip():
            blank = blank or number > 0
        else:
            indent = len(indentation(line))
            remark = line.lstrip().startswith("#")
            apart = indent < level or blank or previous > level or (remark and code)
            if number and _settled(line) and indent <= level and apart:
                begun = bool(text[:offset].strip())
                goes_on = first_word(line) in CONTINUING or line.lstrip()[0] in ")]}"
                if begun and not goes_on and refusal(before + text[:offset]) is None:
                    return offset
            previous = indent if number else max(indent, level)
            blank = False
            code = code or not remark
        offset += len(line)
    return None


def _settled(line: str) -> bool:
    """Is the first word of `line` written out?"""
    rest = line.lstrip()
    return len(first_word(rest)) < len(rest)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """Tokens of `text` without its indentation, which may be wrong while it is typed."""
    flat = "".join(f"{line.lstrip()}\n" for line in text.split("\n"))
    return tokenize.generate_tokens(io.StringIO(flat).readline)
