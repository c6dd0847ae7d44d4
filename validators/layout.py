"""Scanning of what is not a token: indentation, line ends, comments, backslashes."""

from __future__ import annotations

import re

from validators.blocks import CONTEXTS
from validators.grammar import HEADERS
from validators.lines import CODE, COMMENT, START, Frame
from validators.machine import Machine, Node
from validators.marks import LineEnd, LineStart
from validators.scan import Scan
from validators.strings import StringScanner

__all__ = ["FRESH", "NAME_CHARACTERS", "NEWLINE", "SLASH", "LayoutScanner"]

NAME_CHARACTERS = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+")
NEWLINE, SLASH = 5, 7  # groups of the pattern that finds tokens
FRESH: tuple[int, int, tuple[int, int] | None, bool] = (0, 0, None, False)
# Terminals that are worth naming where nothing else can come.
_EXPECTED = {"NAME": "a name", "NEWLINE": "the end of the line"} | {
    f"'{sign}'": f"'{sign}'" for sign in (":", "in", "import", "else", ")", "]", "}", "=", "(")
}
_COMMENT = re.compile(r"[^\r\n]*")


class LayoutScanner(StringScanner):
    """The part of the scanner that sees lines and blocks."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        version = machine.rules.version
        self.newline = machine.terminal("NEWLINE")
        self.wild = Frame("?", None, None, 0, 0, 0, "")  # brackets of which nothing is known, if any
        self.top = Frame("", None, None, 0, 0, 0, "")
        self.entries = {context: machine.entry(*rules) for context, rules in CONTEXTS.items()}
        self.anywhere = machine.anywhere(*{rule for rules in CONTEXTS.values() for rule in rules})
        self._outcomes: dict[Node, str] = {}
        self._reasons: dict[Node, str] = {}
        self._opens = machine.mask("$match+", *(f"${kind}+" for kind in HEADERS))
        # What a backslash in the indentation does: it fixes the column, from 3.10 on unless that is 0; in 3.9 the line
        # counts as not indented at all; in 3.8 the line begins there, so it can be blank outside all blocks alone.
        self._counts_on = version >= (3, 10)
        self._ignores = version == (3, 9)
        self._resolves = version == (3, 8)
        self.adds_line = version < (3, 12)  # one more line end behind a text that ends in CRLF
        self._blank = {
            context: machine.entry(*rules, "blank_line") for context, rules in CONTEXTS.items() if "line" in rules
        }

    def why(self, node: Node) -> str:
        """What would have been accepted, where that is one thing."""
        reason = self._reasons.get(node)
        if reason is None:
            bits = self.machine.accepts(node)
            only = [s for n, s in enumerate(self.machine.spelling) if bits >> n & 1 and s in _EXPECTED]
            one = len(only) == 1 and bits.bit_count() < 40
            reason = self._reasons[node] = f"expected {_EXPECTED[only[0]]}" if one else "invalid syntax"
        return reason

    def _skip(self, scan: Scan) -> None:
        match = _COMMENT.match(scan.text, scan.pos)
        assert match is not None
        scan.pos = match.end()
        if scan.pos < len(scan.text):
            scan.local = False
            self._begin(scan)

    def _begin(self, scan: Scan) -> None:
        scan.kind, scan.node, scan.frame, scan.part, scan.detail = START, None, self.top, "", FRESH

    def _comment(self, scan: Scan) -> None:
        match = _COMMENT.match(scan.text, scan.pos)
        assert match is not None
        scan.pos = match.end()
        if scan.pos < len(scan.text):
            if scan.node is None:
                self._begin(scan)
            else:
                scan.kind = CODE

    def _start(self, scan: Scan) -> None:
        """Indentation: columns as CPython counts them, blank lines and comments do not matter."""
        scan.join()
        detail = scan.detail
        assert isinstance(detail, tuple)
        column, tabbed, held, _ = detail
        text, at, size = scan.text, scan.pos, len(scan.text)
        fresh = False
        while at < size:
            character = text[at]
            if character == " ":
                column += 1
                tabbed += 1
            elif character == "\t":
                column = (column // 8 + 1) * 8
                tabbed += 1
            elif character == "\f":
                column = tabbed = 0
            elif character in "\r\n":
                scan.separate("\n", 0, at)
                column = tabbed = 0
                held = None
            elif character == "#":
                scan.separate("#", 0, at)
                scan.kind, scan.node, scan.detail, scan.pos = COMMENT, None, None, at + 1
                return
            elif character == "\\":
                if self._resolves:
                    self._resolve(scan, at, column, tabbed)
                    if not scan.refused and scan.block.parent is None and scan.block.context in self._blank:
                        scan.node = self._blank[scan.block.context]
                    return
                end = self._continuation(scan, at)
                if end < 0:
                    scan.detail = (column, tabbed, held, False)
                    return
                if held is None and (column or not self._counts_on):
                    held = (column, column if self._counts_on else tabbed)
                fresh = end == size and not (self.adds_line and text.endswith("\\\r\n"))
                at = end
                continue
            else:
                if held is not None:
                    column, tabbed = held
                    if self._ignores:
                        column, tabbed = scan.block.column, scan.block.tabbed
                self._resolve(scan, at, column, tabbed)
                return
            at += 1
        scan.pos = size
        scan.detail = (column, tabbed, held, fresh)

    def _resolve(self, scan: Scan, at: int, column: int, tabbed: int) -> None:
        scan.local = False
        block, reason = scan.block.at(column, tabbed)
        if block is None:
            scan.refuse(at, reason)
            return
        word = NAME_CHARACTERS.match(scan.text, at)
        finished = word is None or word.end() < len(scan.text)
        scan.marks.append(LineStart(block.column, word[0] if word else "", finished))
        scan.block = block
        scan.node = self.entries[block.context]
        scan.kind, scan.detail, scan.pos = CODE, None, at

    def _continuation(self, scan: Scan, at: int) -> int:
        """The position behind a backslash and the end of its line; -1 where text ends or is wrong before that."""
        text, size = scan.text, len(scan.text)
        end = at + 1
        if end == size or (text[end] == "\r" and end + 1 == size):
            scan.part = text[at:]
            scan.pos = size
            return -1
        if text[end] == "\n":
            return end + 1
        if text[end] == "\r":
            return end + 2 if text[end + 1] == "\n" else end + 1
        scan.refuse(end, "unexpected character after line continuation character")
        return -1

    def _layout(self, scan: Scan, group: int, begin: int, end: int) -> int:
        """A line's end, a comment or a backslash; the position to go on from, or -1."""
        node, frame = scan.node, scan.frame
        assert node is not None
        if frame.closed and (group != NEWLINE or "\n" in frame.closed):
            scan.refuse(begin, "f-string expression part cannot include a backslash, '#' or a line's end")
            return -1
        if group != SLASH:
            scan.separate("\n", frame.level, begin)
        else:
            following = self._continuation(scan, begin)
            if following == len(scan.text):
                scan.part, scan.pos = scan.text[begin:], following
                return -1
            return following
        if frame is not self.top:
            if group == NEWLINE:
                if frame is self.wild and (outcome := self._outcome(node)):
                    scan.ends += [(end + scan.shift, each) for each in outcome.split()]
                return end
        else:
            outcome = self._outcome(node)
            block = scan.block.after(outcome) if outcome else None
            if outcome.endswith("+"):
                scan.local = False  # how deep the blocks are decides about one more
            if block is None:
                scan.refuse(begin, self.why(node))
                return -1
            if group == NEWLINE:
                scan.local = False
                scan.marks.append(LineEnd(block.column, outcome, block.context))
                scan.block = block
                self._begin(scan)
                scan.pos = end
                scan.began = end + scan.shift
                return -1
        scan.kind, scan.pos = COMMENT, end
        return -1

    def _outcome(self, node: Node) -> str:
        """What the line was if it ends here; '' where it cannot end."""
        outcome = self._outcomes.get(node)
        if outcome is None:
            after = self.machine.step(node, self.newline)
            outcome = ""
            if after is not None:
                bits = self.machine.accepts(after)
                outcome = self.machine.spelling[bits.bit_length() - 1]
                if bits & (bits - 1):  # a line whose beginning is missing can be of several kinds
                    opens = bits & self._opens
                    outcome = "$broken" if not opens else "$broken+" if opens == bits else "$broken $broken+"
            self._outcomes[node] = outcome
        return outcome
