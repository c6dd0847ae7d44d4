"""Whether anything can follow a text, by the parser of the running interpreter.

A text is judged by giving CPython the text, completed so that its last token is whole, with a backslash and a newline
behind it: if the parser then reports anything but "incomplete input", it failed on whole tokens, and nothing that
follows can mend them. A text is viable if one of the ways to make its last token whole is.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from validators import reference_fields
from validators.reference_lines import NESTED_FIELDS, Scan, scan
from validators.reference_outline import Outline

INCOMPLETE = 0x4000
"""`codeop.PyCF_ALLOW_INCOMPLETE_INPUT`: say "incomplete input" where the tokenizer met the end of the source."""
OPEN_ENDED = "incomplete input"
_OPEN = "\\\n"
"""Behind a text: keeps the tokenizer from inventing a NEWLINE at the end of the source."""

_GROW_WORD = ("", "_")
_GROW_OPERATOR = ("", "=", "*", "*=", "/", "/=", "<", "<=", ">", ">=", ".", "..", "0")
_GROW_NUMBER = ("", "0", ".0", "e0", "j", "_0", "0.0", "0e0", "0j", "x0", "o0", "b0")
_GROW_TEXT = ("", "\\", *("0" * count for count in range(1, 9)), "{DIGIT ONE}", "}", "r")
_WORDS = (*keyword.kwlist, "case", "match", "type")
_LONGEST_WORD = max(map(len, _WORDS))
_PREFIXES = ("b", "br", "f", "fr", "r", "rb", "rf", "u", "t", "tr", "rt")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
"""What no source file can contain."""
_HALF_NAMED = re.compile(r"(?<!\\)(?:\\\\)*\\N\{[A-Za-z0-9 -]*\Z")


class Fed(NamedTuple):
    """The outcome of reading more text."""

    accepted: int
    """Characters of the text that something can follow."""
    outline: Outline
    line: str
    """The open logical line after exactly those."""
    complaint: str | None
    """About the character after them; None if there is none."""


def feed(outline: Outline, line: str, text: str) -> Fed:
    """Read `text` behind finished logical lines with this outline and the open line `line`, which is viable."""
    unreadable = _UNREADABLE.search(text)
    readable = text if unreadable is None else text[: unreadable.start()]
    rest, judged, accepted = line + readable, len(line), -len(line)
    while rest:
        found = scan(rest)
        reason = refusal(outline, rest, found, judged)
        if reason is not None:
            dead = _first_dead(outline, rest if found.end < 0 else rest[: found.end], judged)
            return Fed(accepted + dead, outline, rest[:dead], reason)
        if found.end < 0:
            break
        if found.first >= 0:
            outline = outline.after(rest[: found.end])
        accepted += found.end
        rest, judged = rest[found.end :], 0
    reason = None if unreadable is None else "a character that no source file can contain"
    return Fed(len(readable), outline, rest, reason)


def _first_dead(outline: Outline, line: str, viable: int) -> int:
    """The length of the longest viable beginning of `line`, which is longer than `viable` - 1 and not all of it."""
    dead = len(line)
    while dead - viable > 1:
        middle = (viable + dead) // 2
        if refusal(outline, line[:middle], judged=viable) is None:
            viable = middle
        else:
            dead = middle
    return viable


def refusal(outline: Outline, line: str, found: Scan | None = None, judged: int = 0) -> str | None:
    """Why nothing can follow that makes `outline` + `line` parse; None if something may.

    `line` is at most one logical line; its first `judged` characters are known to be viable.
    """
    found = found or scan(line)
    if found.dead >= 0:
        return "a token ends where it cannot"
    line = line if found.end < 0 else line[: found.end]
    for begin, end in found.literals:
        if end > judged and (complaint := literal(line[begin:end])) is not None:
            return complaint
    if found.first < 0:
        return None
    before = outline.text
    complaints = []
    for completed in _whole(line, found):
        complaint = judge(before + completed)
        if complaint is None:
            break
        complaints.append(complaint)
    else:
        return complaints[0]
    return _open_literal(line, found)


def _whole(line: str, found: Scan) -> Iterator[str]:
    """The beginning of a line with its last token made whole, in every way that matters."""
    start, open_end = found.start, "\n" + _OPEN if found.stack else "\n"
    head = line[:start]
    word = line[start:]
    if found.kind == "newline":
        yield line + (_OPEN if found.stack else "")
    elif found.kind == "comment":
        yield head + open_end
    elif found.kind == "backslash":
        yield line + "\n"
    elif found.kind in ("string", "text"):
        text = next(frame for frame in reversed(found.stack) if frame.kind == "text")
        yield line[: text.start] + text.prefix + text.quote * 2 + _OPEN
    elif found.kind == "word":
        yield from (line + more + _OPEN for more in _GROW_WORD)
        yield from (head + other + " " + _OPEN for other in _WORDS if other.startswith(word) and other != word)
        prefixes = (line + other[len(word) :] + '""' for other in _PREFIXES if other.startswith(word.lower()))
        yield from (other + _OPEN for other in prefixes if _is_literal(other))
    elif found.kind == "number":
        yield from (line + more + _OPEN for more in _GROW_NUMBER + _GROW_OPERATOR)
        letters = line[max(start, len(line) - _LONGEST_WORD) :]  # a word may be glued to it: 0xfo is 0xf and 'or'
        for begun in (letters[at:] for at in range(len(letters) + 1) if not letters[at:] or letters[at:].isalpha()):
            yield from (line + other[len(begun) :] + " " + _OPEN for other in _WORDS if other.startswith(begun))
    elif found.kind == "operator":
        yield from (line + more + _OPEN for more in _GROW_OPERATOR)
        if found.stack and found.stack[-1].kind == "field" and found.stack[-1].start == len(line) - 1:  # of a '{{'
            text = next(frame for frame in reversed(found.stack) if frame.kind == "text")
            if found.stack[-2] == text or found.stack[-2].behind:
                yield line[: text.start] + text.prefix + text.quote * 2 + _OPEN
    else:
        yield line + _OPEN


def _is_literal(line: str) -> bool:
    """Is the run of string literals that the line ends in one?"""
    literals = scan(line).literals
    return bool(literals) and literal(line[slice(*literals[-1])]) is None


def _open_literal(line: str, found: Scan) -> str | None:
    """Why the string that the line ends in cannot be ended; None if it can, or if there is none."""
    texts = [frame for frame in found.stack if frame.kind == "text"]
    if not texts or (found.kind not in ("string", "text") and not found.conversion):
        return None
    top = texts[-1]
    before, text = line[top.run : top.start], line[top.start :] + "\n" * (found.kind == "backslash")
    if not NESTED_FIELDS and "f" in top.prefix.lower():
        return reference_fields.refusal(
            text,
            top.prefix,
            top.quote,
            lambda text, closers: _any_literal(before + text, _GROW_TEXT, closers),
            lambda inside: refusal(Outline(), inside),
        )
    inside = found.stack[found.stack.index(top) :]
    closers = "}" * sum(frame.kind == "field" for frame in inside) + top.quote
    return _any_literal(before + text, ("r", "") if found.conversion else _GROW_TEXT, closers)


def _any_literal(text: str, grown: Iterable[str], closers: str) -> str | None:
    """Why no growth of the last character and these closers make string literals of `text`; None if one does."""
    text = _HALF_NAMED.sub(lambda half: half[0][: half[0].rindex("\\N{")] + "\\N{DIGIT ONE}", text)
    complaints = []
    for more in grown:
        complaint = literal(text + more + closers)
        if complaint is None:
            return None
        complaints.append(complaint)
    return complaints[0]


@lru_cache(maxsize=1024)
def literal(run: str) -> str | None:
    """Why a run of string literals is none; None if it is one."""
    result = outcome(f"({run}\n)", ast.PyCF_ONLY_AST)
    return None if result == "ok" else result


@lru_cache(maxsize=4096)
def judge(text: str) -> str | None:
    """CPython's complaint about whole tokens; None if there is none, or if it gave up."""
    result = outcome(text, ast.PyCF_ONLY_AST | INCOMPLETE)
    if result in ("ok", OPEN_ENDED):
        return None
    return "invalid syntax" if "EOF" in result or "never closed" in result else result


def parses(text: str) -> bool:
    """Is `text` a whole program? False where the parser gives up."""
    return outcome(text, ast.PyCF_ONLY_AST) == "ok"


def syntax_error(text: str) -> SyntaxError | None:
    """What the parser says against `text`; None if it is a whole program, or if the parser gives up."""
    try:
        _compile(text, ast.PyCF_ONLY_AST)
    except SyntaxError as error:
        return error
    except (ValueError, MemoryError, RecursionError):
        return None
    return None


def outcome(text: str, flags: int) -> str:
    try:
        _compile(text, flags)
    except SyntaxError as error:
        return error.msg
    except ValueError as error:  # a NUL or a lone surrogate; else a tree that 3.12.1 built and then found to be wrong
        return OPEN_ENDED if "is required for" in str(error) else str(error)
    except (MemoryError, RecursionError):
        return OPEN_ENDED
    return "ok"


def _compile(text: str, flags: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(text, "<text>", "exec", flags, dont_inherit=True)
