"""Scanning inside strings and the literal text of f-strings (before 3.12 as CPython's string parser, then PEP 701)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from validators.characters import characters
from validators.lines import CODE, LITERAL, STRING, Frame
from validators.literals import StringKind, escape, string_kind
from validators.machine import Machine

if TYPE_CHECKING:
    from validators.scan import Scan

__all__ = ["MOST_BRACKETS", "StringScanner"]

MOST_BRACKETS = 200
_WINDOW = 130  # characters that are enough to see the whole of any escape


class StringScanner:
    """The half of the scanner that is inside quotes. Each method moves ``scan`` on, refuses, or changes its kind."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.nested = machine.rules.version >= (3, 12)  # PEP 701
        # In a format between single quotes: a line's end makes the tokenizer read code again; later it is an error.
        self._line_ends_format = machine.rules.version in ((3, 12), (3, 13))
        self.known = characters(machine.rules.version)
        self._most_fields = 3 if self.nested else 2
        self._cooks_formats = self._line_ends_format  # escapes count in format specifications of raw strings as well
        self._plain = machine.terminal("STRING")
        self._end = machine.terminal("FSTRING_END")
        self._open_field = machine.terminal("'f{'")
        self._close_field = machine.terminal("'f}'")

    def open_string(self, scan: Scan, prefix: str, quote: str) -> None:
        """Enters a string behind its first quote. ``part`` is then '1', and '2' behind a second quote.

        Where quotes of enclosing f-strings have to be kept apart '3' is the place behind a string, '4' that behind
        a first quote that touches it.
        """
        scan.kind = STRING
        scan.part = "1"
        scan.detail = string_kind(prefix, quote, False, scan.frame.closed)

    def _string(self, scan: Scan) -> None:
        kind = scan.detail
        assert isinstance(kind, StringKind)
        if scan.part in ("1", "2", "3", "4"):
            self._opening(scan, kind)
            return
        text, size = scan.text, len(scan.text)
        while scan.pos < size:
            if scan.part:
                character = scan.part[0]
            else:
                match = kind.run.match(text, scan.pos)
                if match:
                    scan.pos = match.end()
                    if scan.pos == size:
                        return
                character = text[scan.pos]
            if character == "\\" and "\\" not in kind.closed:
                if not self._escape(scan, kind):
                    return
            elif character == kind.quote:
                if self._closes(scan, kind):
                    if kind.barred:
                        scan.part = "3"
                    else:
                        scan.kind, scan.detail = CODE, None
                    return
            elif character in kind.outer:
                self._passes(scan, character)
            else:
                scan.refuse(scan.pos, _why(character, kind))
            if scan.refused:
                return

    def _opening(self, scan: Scan, kind: StringKind) -> None:
        again = scan.text[scan.pos] == kind.quote
        if again and kind.barred and scan.part in "24":
            scan.refuse(scan.pos, "f-string: expecting '}'")
            return
        if scan.part == "3":
            self._touching(scan, kind, again)
            return
        if scan.part == "1" and again:
            scan.part = "2"
            scan.pos += 1
            return
        second, scan.part = scan.part == "2", ""
        if again:
            kind = string_kind(_prefix(kind), kind.quote, True, kind.closed)
            scan.pos += 1
        elif second:
            self._finish(scan, kind)
            return
        if kind.formatted:
            scan.kind, scan.detail = LITERAL, None
            scan.frame = scan.frame.push("f", kind, self.nested)
        else:
            scan.detail = kind

    def _touching(self, scan: Scan, kind: StringKind, again: bool) -> None:
        """Behind a string inside the field of a triple-quoted f-string: another one may begin with the same quote."""
        if not again:
            scan.kind, scan.detail, scan.part = CODE, None, ""
            return
        after = self.machine.step(scan.node, self._plain) if scan.node else None
        if after is None:
            scan.refuse(scan.pos, "invalid syntax")
            return
        scan.node, scan.part, scan.detail = after, "4", string_kind("", kind.quote, False, kind.closed)
        scan.pos += 1

    def _finish(self, scan: Scan, kind: StringKind) -> None:
        scan.kind, scan.detail = CODE, None
        if kind.formatted:
            self._take(scan, self._end)

    def _escape(self, scan: Scan, kind: StringKind) -> bool:
        """Moves over the escape at the position (or in ``part``); False where it is wrong or not finished."""
        part = scan.part
        full = part + scan.text[scan.pos : scan.pos + _WINDOW]
        if kind.raw and self._cooks_formats and scan.kind == LITERAL and scan.frame.opener in "st":
            kind = string_kind("f", kind.quote, kind.triple, kind.closed)
            if full[1:2] == "N":  # and its brace opens a field
                scan.refuse(scan.pos + 1 - len(part), "invalid escape sequence in the string")
                return False
        length, done = escape(kind, full, self.known)
        if done:
            scan.pos += length - len(part)
            scan.part = ""
            return True
        if length == len(full):
            scan.pos += length - len(part)
            scan.part = full
        else:
            scan.refuse(scan.pos + length - len(part), "invalid escape sequence in the string")
        return False

    def _closes(self, scan: Scan, kind: StringKind) -> bool:
        """Moves over the quotes at the position; True where they end the string."""
        needed = 3 if kind.triple else 1
        seen = len(scan.part)
        text, size = scan.text, len(scan.text)
        while seen < needed and scan.pos < size and text[scan.pos] == kind.quote:
            seen += 1
            scan.pos += 1
        scan.part = kind.quote * seen if seen < needed and scan.pos == size else ""
        return seen == needed

    def _passes(self, scan: Scan, quote: str) -> None:
        """Moves over quotes of an enclosing f-string, three of which in a row would end it."""
        seen = len(scan.part)
        text, size = scan.text, len(scan.text)
        while scan.pos < size and text[scan.pos] == quote:
            if seen == 2:
                scan.refuse(scan.pos, "unterminated string literal")
                return
            seen += 1
            scan.pos += 1
        scan.part = quote * seen if scan.pos == size else ""

    def _literal(self, scan: Scan) -> None:
        while scan.kind == LITERAL and not scan.refused and scan.pos < len(scan.text):
            kind = scan.frame.kind
            assert kind is not None
            text = scan.text
            if scan.part:
                character = scan.part[0]
            else:
                match = kind.run.match(text, scan.pos)
                if match:
                    scan.pos = match.end()
                    if scan.pos == len(text):
                        return
                character = text[scan.pos]
            if character in "{}":
                self._brace(scan, character)
            elif character == "\\" and "\\" not in kind.closed:
                full = scan.part + text[scan.pos : scan.pos + 2]
                if full[1:2] in ("{", "}"):  # the backslash stands for itself, the brace is a brace
                    scan.pos += 1 - len(scan.part)
                    scan.part = ""
                    if full[1] == "}" and scan.frame.opener == "f":
                        continue
                elif not self._escape(scan, kind):
                    return
            elif character == kind.quote:
                self._quotes(scan, kind)
            elif character in kind.outer:
                self._passes(scan, character)
            elif character in "\r\n" and scan.frame.opener == "s" and self._line_ends_format:
                assert scan.frame.parent is not None
                scan.frame = scan.frame.parent  # a line's end ends the format, the field goes on
                scan.kind = CODE
            else:
                scan.refuse(scan.pos, _why(character, kind))

    def _quotes(self, scan: Scan, kind: StringKind) -> None:
        before = scan.pos
        if not self._closes(scan, kind):
            return
        if scan.frame.opener in "st":
            scan.refuse(max(before, scan.pos - 1), "f-string: expecting '}'")
            return
        assert scan.frame.parent is not None
        scan.frame = scan.frame.parent
        self._finish(scan, kind)
        if kind.barred:
            scan.kind, scan.part, scan.detail = STRING, "3", string_kind("", kind.quote, False, kind.closed)

    def _brace(self, scan: Scan, brace: str) -> None:
        """A brace in literal text: doubled it stands for itself, otherwise it opens or closes a field.

        In a format a brace is not doubled, but behind a field in it CPython's tokenizer has forgotten where it is.
        """
        frame = scan.frame
        if frame.opener == "f" or (frame.opener == "t" and brace == "{" and self.nested):
            following = scan.pos + 1 - len(scan.part)
            if following == len(scan.text):
                scan.part = brace
                scan.pos = following
                return
            doubled = scan.text[following] == brace
            scan.part = ""
            scan.pos = following
            if doubled:
                scan.pos += 1
            elif brace == "{":
                self._enter(scan, frame)
            else:
                scan.refuse(following, "f-string: single '}' is not allowed")
            return
        if brace == "{":
            scan.pos += 1
            self._enter(scan, frame)
            return
        assert frame.parent is not None and frame.parent.parent is not None
        self._take(scan, self._close_field)
        scan.frame = frame.parent.parent.behind_field(self.nested)
        scan.pos += 1

    def _enter(self, scan: Scan, frame: Frame) -> None:
        if frame.fields >= self._most_fields or (self.nested and frame.depth >= MOST_BRACKETS):
            single = frame.opener == "s" or (frame.opener == "t" and not self.nested)
            scan.refuse(scan.pos - single, "f-string: expressions nested too deeply")
            return
        self._take(scan, self._open_field)
        scan.frame = frame.push("r", None, self.nested)
        scan.kind = CODE

    def _take(self, scan: Scan, terminal: int) -> None:
        """A part of an f-string, which the parser always has a use for where the scanner meets it.

        Only where the text's beginning is guessed, the brackets and the stack around it may belong to different ones.
        """
        after = self.machine.step(scan.node, terminal) if scan.node else None
        if after is not None:
            scan.node = after
            return
        frame = scan.frame
        while frame.parent is not None:
            frame = frame.parent
        if frame.opener != "?":
            raise AssertionError(f"{self.machine.spelling[terminal]} has no place here")
        scan.refuse(scan.pos, "invalid syntax")


def _prefix(kind: StringKind) -> str:
    return "r" * kind.raw + "b" * kind.bytes + ("t" if kind.template else "f") * kind.formatted


def _why(character: str, kind: StringKind) -> str:
    if character in "\r\n" and not kind.triple:
        return "unterminated string literal"
    if kind.bytes:
        return "bytes can only contain ASCII literal characters"
    return f"f-string expression part cannot include {character!r}"
