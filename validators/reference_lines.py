"""Where a logical line of Python ends, and what is open at the end of a text.

A small tokenizer for the reference validator. It decides nothing about grammar: it says which token is the last one,
which brackets, strings and replacement fields are open, and where one logical line stops and the next begins.
"""

from __future__ import annotations

import re
import sys
from typing import Literal, NamedTuple

NESTED_FIELDS = sys.version_info >= (3, 12)
"""Since PEP 701 the replacement fields of f-strings are tokenized like any other code."""

BEGINS_LINES = sys.version_info < (3, 9)
"""In 3.8 a line begins with a backslash in its indentation, so it is not blank."""
LINES_END_FORMATS = (3, 12) <= sys.version_info < (3, 14)
"""A line's end in a format specification between single quotes makes the tokenizer read code again; later, an error."""

Kind = Literal["blank", "newline", "space", "comment", "word", "number", "operator", "string", "backslash", "text"]
"""What the last token is. `text`: the text of an f-string outside its fields. `string`: a string that is open."""

_FORMATTED = "f|fr|rf" + ("|t|tr|rt" if sys.version_info >= (3, 14) else "")
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\f]+)
    | (?P<newline>\r\n?|\n)
    | (?P<comment>\#[^\r\n]*)
    | (?P<prefix>(?i:b|u|r|br|rb|{_FORMATTED})?)(?P<quote>\"\"\"|'''|"|')
    | (?P<number>\.?[0-9](?:[eE][+-]|[\w.])*)
    | (?P<word>[^\W\d](?:\w|[^\x00-\x7f])*|[^\x00-\x7f](?:\w|[^\x00-\x7f])*)
    | (?P<backslash>\\(?:\r\n?|\n)?)
    | (?P<operator>\*\*=?|//=?|<<=?|>>=?|\.\.\.|->|:=|[-+*/%@&|^=<>!]=|<>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BODY = {
    "'": re.compile(r"[^'\\\r\n]*(?:\\(?:\r\n|[\s\S])[^'\\\r\n]*)*"),
    '"': re.compile(r'[^"\\\r\n]*(?:\\(?:\r\n|[\s\S])[^"\\\r\n]*)*'),
    "'''": re.compile(r"[^'\\]*(?:(?:\\[\s\S]|'(?!''))[^'\\]*)*"),
    '"""': re.compile(r'[^"\\]*(?:(?:\\[\s\S]|"(?!""))[^"\\]*)*'),
}
_PLAIN = re.compile(r"[^{}\\\r\n'\"]+")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


class Frame(NamedTuple):
    """Something that is open: a bracket, an f-string's text, a replacement field, a format specification."""

    kind: str
    """`(`, `[`, `{`, `text`, `field` or `spec`. A plain string that is open is a text, too."""
    start: int
    """Where it begins in the line."""
    prefix: str = ""
    quote: str = ""
    run: int = -1
    """For a text: where the run of adjacent literals begins that it belongs to."""
    behind: bool = False
    """For a specification: there has been a field in it. CPython's tokenizer takes it for the string's text then."""

    @property
    def closer(self) -> str:
        return _CLOSERS.get(self.kind, "}" if self.kind in ("field", "spec") else self.quote)


class Scan(NamedTuple):
    """What is known about the beginning of a logical line."""

    end: int
    """Characters up to and including the newline that ends the logical line; -1 while it is open."""
    dead: int
    """The first character that no token can contain where it stands; -1 if there is none."""
    kind: Kind
    start: int
    """Where the last token begins."""
    stack: tuple[Frame, ...]
    literals: tuple[tuple[int, int], ...]
    """Runs of adjacent closed string literals, as [start, end), by their ends."""
    first: int
    """Where the first token that is no comment begins; -1 if the line is blank so far."""
    conversion: bool
    """The last token follows a `!` in a replacement field."""


def scan(line: str) -> Scan:
    """Read one logical line from its beginning. What follows its newline is not looked at."""
    stack: list[Frame] = []
    literals: list[tuple[int, int]] = []
    conversion = False
    kind: Kind = "blank"
    at = start = 0
    first = dead = run = -1

    def close_literal(begin: int, end: int) -> int:
        if literals and literals[-1][0] == begin:
            literals.pop()
        literals.append((begin, end))
        return begin

    while at < len(line):
        if stack and stack[-1].kind in ("text", "spec"):
            frame = stack[-1]
            kind, start = "text", at
            at, event = _text(line, at, frame)
            if event == "field":
                stack.append(Frame("field", at - 1, frame.prefix, frame.quote))
                kind, start, run, conversion = "operator", at - 1, -1, False
            elif event == "end of field":
                del stack[-2:]
                _mark(stack)
            elif event == "end of line":
                stack.pop()
                kind, start = "newline", at - 1
            elif event == "end of text":
                stack.pop()
                kind, start = "operator", frame.start
                run = close_literal(frame.run, at)
            elif event == "dead":
                dead = at
                break
            continue
        found = _TOKEN.match(line, at)
        assert found is not None
        begin, at = at, found.end()
        if found["newline"]:
            whole = found[0] != "\r" or at < len(line)
            kind, start = "newline", begin
            if not stack:
                if whole:
                    return Scan(at, -1, kind, begin, (), tuple(literals), first, False)
                break
            continue
        if found["space"]:
            kind, start = ("space" if first >= 0 else "blank"), begin
            continue
        if found["comment"]:
            kind, start = "comment", begin
            continue
        if found["backslash"]:
            kind, start = ("space" if len(found[0]) > 1 else "backslash"), begin
            if kind == "backslash" and at < len(line):
                dead = at
                break
            if BEGINS_LINES and first < 0:
                first = begin
            continue
        if first < 0:
            first = begin
        start = begin
        quote = found["quote"]
        if quote:
            formatted = NESTED_FIELDS and bool(re.search("[ft]", found["prefix"], re.IGNORECASE))
            run = begin if run < 0 else run
            if formatted:
                stack.append(Frame("text", begin, found["prefix"], quote, run))
                kind = "text"
                continue
            body = _BODY[quote].match(line, at)
            assert body is not None
            at = body.end()
            if line.startswith(quote, at):
                at += len(quote)
                kind = "operator"
                run = close_literal(run, at)
            elif at < len(line) and line[at] in "\r\n":
                dead = at
                break
            else:
                kind, at = "string", len(line)
                stack.append(Frame("text", begin, found["prefix"], quote, run))
            continue
        run = -1
        kind = "word" if found["word"] else "number" if found["number"] else "operator"
        if kind == "operator":
            at = _bracket(line, begin, at, stack)
            conversion = bool(stack) and stack[-1].kind == "field" and line[begin:at] == "!"
        else:
            conversion = conversion and stack[-1].kind == "field" and line[begin - 1] == "!"
    if stack and stack[-1].kind in ("text", "spec") and kind != "string":
        kind = "text"
    return Scan(-1, dead, kind, start, tuple(stack), tuple(literals), first, conversion)


def _bracket(line: str, begin: int, at: int, stack: list[Frame]) -> int:
    """Let an operator open or close what it may; in a field, `:` and `!` end the expression. Returns its end."""
    operator = line[begin:at]
    top = stack[-1] if stack else None
    if top is not None and top.kind == "field" and operator.startswith(":"):
        stack.append(Frame("spec", top.start, top.prefix, top.quote))
        return begin + 1
    if operator in _CLOSERS:
        stack.append(Frame(operator, begin))
    elif operator in (")", "]", "}") and top is not None and top.closer == operator:
        stack.pop()
        if top.kind == "field":
            _mark(stack)
    return at


def _mark(stack: list[Frame]) -> None:
    """Note in a format specification that a field in it has ended."""
    if stack[-1].kind == "spec":
        stack[-1] = stack[-1]._replace(behind=True)


def _text(line: str, at: int, frame: Frame) -> tuple[int, str]:
    """Read an f-string's text, or a format specification, up to the next event."""
    quote, in_spec = frame.quote, frame.kind == "spec"
    raw = "r" in frame.prefix.lower()
    while at < len(line):
        plain = _PLAIN.match(line, at)
        if plain:
            at = plain.end()
            continue
        here, following = line[at], line[at + 1 : at + 2]
        if here == "{":
            if following == "{" and (not in_spec or frame.behind):
                at += 2
                continue
            return at + 1, "field"
        if here == "}":
            if in_spec:
                return at + 1, "end of field"
            if following not in ("}", ""):
                return at + 1, "dead"
            at += 2 if following else 1
        elif here == "\\":
            if not raw and line.startswith("\\N{", at):
                closed = line.find("}", at)
                at = len(line) if closed < 0 else closed + 1
            else:
                at += 1 if following in ("{", "}", "") else 3 if line.startswith("\r\n", at + 1) else 2
        elif here in "\r\n":
            if len(quote) == 1:
                return (at + 1, "end of line") if in_spec and not frame.behind and LINES_END_FORMATS else (at, "dead")
            at += 1
        elif line.startswith(quote, at):
            return (at, "dead") if in_spec else (at + len(quote), "end of text")
        else:
            at += 1
    return len(line), "open"
