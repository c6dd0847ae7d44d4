"""The scanner: feeds text to the parser token by token and says at which character nothing can follow.

It is CPython's tokenizer (Parser/lexer/lexer.c) made resumable: text may stop anywhere. The unfinished token is kept
as ``Line.part``, together with the question whether the parser has a use for any token that it can still become.
"""

from __future__ import annotations

import re

from validators.blocks import CONTEXTS, Block
from validators.grammar import HEADERS
from validators.lines import CODE, COMMENT, CONVERSION, LITERAL, START, Frame, Line, Reading
from validators.literals import NUMBER_RUN, number_end, shorten
from validators.machine import Machine, Node
from validators.strings import MOST_BRACKETS, StringScanner
from validators.units import LineEnd, LineStart, Mark, Separator
from validators.words import Words

__all__ = ["FORBIDDEN", "OPENERS", "Scan", "Scanner"]

FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # source text is UTF-8 without NUL
_NAME_CHARACTER = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+")
_COMMENT = re.compile(r"[^\r\n]*")
_BLANKS = re.compile(r"[ \t\f]*")
_STRING, _NAME, _NUMBER, _SIGN, _NEWLINE, _HASH, _SLASH = range(1, 8)
_MOST_STRINGS = 149  # MAXFSTRINGLEVEL, less the file itself
OPENERS = {")": "(", "]": "[", "}": "{"}
_SEPARATORS = frozenset([",", ";", ":", "=", ":=", ")", "]", "}", "+=", "-=", "*=", "@=", "/=", "%=", "&=", "|=", "^="])
_DEEP = 1 << 30
_LONGEST_MEMO = 64  # characters
_FRESH: tuple[int, int, tuple[int, int] | None, bool] = (0, 0, None, False)
_EXPECTED = {"':'", "'in'", "'import'", "'else'", "')'", "']'", "'}'", "'='", "'('", "NAME", "NEWLINE"}


class Scan:
    """The working place of one ``Scanner.run``: a Line taken apart, the text and the position in it.

    ``accepted`` characters are ``pos + shift``: ``text`` is rebuilt when an unfinished token is put in front of it.
    """

    __slots__ = (
        "began", "block", "detail", "ends", "frame", "kind", "local", "low", "marks", "missing",
        "node", "part", "pos", "reason", "refused", "shift", "text", "whole",
    )  # fmt: skip

    def __init__(self, line: Line, block: Block, text: str) -> None:
        self.kind = line.kind
        self.node: Node | None = line.node
        self.frame = line.frame
        self.part = line.part
        self.detail = line.detail
        self.block = block
        self.text = text
        self.pos = 0
        self.shift = 0
        self.refused = False
        self.reason = ""
        self.local = True  # nothing has depended on the block so far
        self.began = 0  # where the logical line begins that the position is in
        self.marks: list[Mark] = []
        self.low = _DEEP  # level of the last separator in ``marks``
        self.whole = text
        self.missing = ""  # in ``Scanner.wild``: brackets that were closed and must have been opened before
        self.ends: list[
            tuple[int, str]
        ] = []  # in ``Scanner.wild``: line ends that may be the logical line's, its outcome

    def separate(self, sign: str, level: int, position: int) -> None:
        """Notes a separator where it is less deep than all before."""
        semicolon = sign == ";" and level == 0
        if level < self.low or semicolon:
            self.low = min(level, self.low)
            begun = bool(self.whole[: position + self.shift].strip())
            self.marks.append(Separator(level, sign in ")]}", begun, semicolon))

    def refuse(self, position: int, reason: str) -> None:
        self.pos = position
        self.refused = True
        self.reason = reason

    def join(self) -> None:
        """Puts the unfinished token in front of the text."""
        part = self.part
        if part:
            self.text = part + self.text[self.pos :]
            self.shift += self.pos - len(part)
            self.pos = 0
            self.part = ""


class Scanner(StringScanner):
    """Scans for one Python version. Lines and configurations are interned here."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        version = machine.rules.version
        self.words = Words(machine)
        self.newline = machine.terminal("NEWLINE")
        self.wild = Frame("?", None, None, 0, 0, 0, "")  # brackets of which nothing is known, if any
        self.top = Frame("", None, None, 0, 0, 0, "")
        self.entries = {context: machine.entry(*rules) for context, rules in CONTEXTS.items()}
        self.anywhere = machine.anywhere(*{rule for rules in CONTEXTS.values() for rule in rules})
        self.outcomes: dict[Node, str] = {}
        self._opens = machine.mask("$match+", *(f"${kind}+" for kind in HEADERS))
        self._lines: dict[tuple[int, Node | None, Frame, str, object], Line] = {}
        # What a backslash in the indentation does: it fixes the column, from 3.10 on unless that is 0; in 3.9 the line
        # counts as not indented at all; in 3.8 the line begins there, so it cannot be blank.
        self._counts_on = version >= (3, 10)
        self._ignores = version == (3, 9)
        self._resolves = version == (3, 8)
        prefixes = "|".join(sorted({p.lower() for p in self.words.prefixes}, key=len, reverse=True))
        signs = sorted(self.words.operators, key=len, reverse=True)
        self._token = re.compile(
            rf"[ \t\f]*(?:((?i:{prefixes})?['\"])|([A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)"
            rf"|(\.?[0-9])|({'|'.join(map(re.escape, signs))}|!)|(\r\n?|\n)|(\#)|(\\))?"
        ).match
        self._growing = {sign for sign in (*signs, "!", "..") if self._grows(sign)}
        self._checked = version >= (3, 10)
        self._real, self._imaginary = machine.terminal("NUMBER"), machine.terminal("IMAGINARY")
        self._conversion_done = machine.terminal("CONVERSION")
        self._field_signs = {sign: machine.terminal(f"'f{sign}'") for sign in ":}!"}
        self.handlers = (
            self._start, self._code, self._string, self._literal, self._comment, self._conversion, self._skip,
        )  # fmt: skip
        self.start_line = self.line(START, None, self.top, "", _FRESH)

    def _grows(self, sign: str) -> bool:
        return sign in ("!", ".", "..") or any(o != sign and o.startswith(sign) for o in self.words.operators)

    def line(self, kind: int, node: Node | None, frame: Frame, part: str, detail: object) -> Line:
        key = (kind, node, frame, part, detail)
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) > 60_000:
                self._lines.clear()
            line = self._lines[key] = Line(kind, node, frame, part, detail)
        return line

    def run(self, line: Line, block: Block, text: str) -> tuple[int, Line, Block, str | None]:
        """Reads ``text``: (characters accepted, the line and the block after them, why it stopped or None)."""
        accepted, after, reason, _, inside = self.read(line, block, text)
        return accepted, after, inside or block, reason

    def read(self, line: Line, block: Block, text: str) -> Reading:
        """As ``run``, with what units were separated; the block is None where it has not changed."""
        known = line.memo.get(text)
        if known is not None:
            return known
        stop = None
        whole = text
        if not text.isascii() or "\0" in text:
            bad = FORBIDDEN.search(text)
            if bad is not None:
                stop = "source code cannot contain null bytes or surrogates"
                text = text[: bad.start()]
        scan = self.scan(line, block, text)
        accepted = scan.pos + scan.shift
        reason = scan.reason if scan.refused else stop
        if accepted < len(text):
            # The token in which the text stopped being viable is kept as far as it went.
            _, after, _, marks, inside = self.read(line, block, text[:accepted])
        else:
            after, inside, marks = self.place(scan), scan.block, tuple(scan.marks)
        if not scan.local:
            return Reading(accepted, after, reason, marks, inside)
        reading = Reading(accepted, after, reason, marks, None)
        if len(text) <= _LONGEST_MEMO:
            if len(line.memo) > 256:
                line.memo.clear()
            line.memo[whole] = reading
        return reading

    def place(self, scan: Scan) -> Line:
        return self.line(scan.kind, scan.node, scan.frame, scan.part, scan.detail)

    def scan(self, line: Line, block: Block, text: str, once: bool = False) -> Scan:
        """Reads until the text ends or nothing can follow; with ``once`` also until a logical line has ended."""
        scan = Scan(line, block, text)
        handlers = self.handlers
        while not scan.refused and scan.pos < len(scan.text) and not (once and scan.began):
            handlers[scan.kind](scan)
        return scan

    def _skip(self, scan: Scan) -> None:
        match = _COMMENT.match(scan.text, scan.pos)
        assert match is not None
        scan.pos = match.end()
        if scan.pos < len(scan.text):
            scan.local = False
            self._begin(scan)

    def _begin(self, scan: Scan) -> None:
        scan.kind, scan.node, scan.frame, scan.part, scan.detail = START, None, self.top, "", _FRESH

    def _comment(self, scan: Scan) -> None:
        match = _COMMENT.match(scan.text, scan.pos)
        assert match is not None
        scan.pos = match.end()
        if scan.pos < len(scan.text):
            if scan.node is None:
                self._begin(scan)
            else:
                scan.kind = CODE

    def _conversion(self, scan: Scan) -> None:
        character = scan.text[scan.pos]
        if not scan.part:
            if character in "sra":
                scan.part = character
                scan.pos += 1
            else:
                scan.refuse(scan.pos, "f-string: invalid conversion character: expected 's', 'r', or 'a'")
        elif _NAME_CHARACTER.match(character) or (not self.nested and character not in ":}"):
            scan.refuse(scan.pos, "f-string: expecting ':' or '}'")
        else:
            assert scan.node is not None
            scan.node = self.machine.step(scan.node, self._conversion_done)
            scan.kind, scan.part = CODE, ""

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
                end = self._continuation(scan, at)
                if end < 0:
                    scan.detail = (column, tabbed, held, False)
                    return
                if self._resolves and column:
                    self._resolve(scan, at, column, tabbed)
                    return
                if held is None and (column or not self._counts_on):
                    held = (column, column if self._counts_on else tabbed)
                at = end
                fresh = at == size
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
        word = _NAME_CHARACTER.match(scan.text, at)
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

    def _code(self, scan: Scan) -> None:
        """Whole tokens, until the text ends or a string, comment or new line begins."""
        scan.join()
        text, at, size = scan.text, scan.pos, len(scan.text)
        node, frame = scan.node, scan.frame
        assert node is not None
        machine, token, terminals, name = self.machine, self._token, self.words.words, self.words.name
        operators, growing = self.words.operators, self._growing
        while True:
            match = token(text, at)
            assert match is not None
            group, end = match.lastindex, match.end()
            if group is None:
                scan.node, scan.frame = node, frame
                scan.pos = end
                if end < size:
                    scan.refuse(end, f"invalid character {text[end]!r}")
                return
            begin = match.start(group)
            if group == _NAME:
                word = text[begin:end]
                if not word.isascii() and not word.isidentifier():
                    self._bad_name(scan, node, frame, begin, word)
                    return
                if end == size:
                    self._pend(scan, node, frame, begin, word if word in self.words.starts else "zz")
                    return
                after = machine.step(node, terminals.get(word, name))
            elif group == _SIGN:
                sign = text[begin:end]
                if frame.opener == "r" and sign[0] in ":}!" and sign != "!=" and (sign != "!" or end < size):
                    self._field_sign(scan, node, frame, begin, sign)
                    return
                if end == size and sign in growing:
                    self._pend(scan, node, frame, begin, sign)
                    return
                if sign == "." and text[end:] == ".":
                    self._pend(scan, node, frame, begin, "..")
                    return
                after = machine.step(node, operators[sign]) if sign != "!" else None
                if after is not None:
                    if sign in _SEPARATORS:
                        scan.separate(sign, frame.level, begin)
                    if sign in "([{":
                        if frame.depth >= MOST_BRACKETS:
                            scan.refuse(begin, "too many nested parentheses")
                            return
                        frame = frame.push(sign, None, self.nested)
                    elif sign in ")]}":
                        if frame is self.wild:
                            scan.missing = OPENERS[sign] + scan.missing
                            scan.ends.clear()  # closes what began before the text: its line goes on to here
                            node, at = after, end
                            continue
                        if frame.parent is None or frame.opener != OPENERS[sign]:
                            scan.frame = frame
                            scan.refuse(begin, f"unmatched {sign!r}")
                            return
                        frame = frame.parent
            elif group == _NUMBER:
                found = self._number(scan, node, frame, begin)
                if found is None:
                    return
                end, after = found
            elif group == _STRING:
                prefix, quote = text[begin : end - 1], text[end - 1]
                if quote in frame.closed:
                    scan.refuse(end - 1, f"f-string expression part cannot include {quote!r}")
                    return
                kind = self.words.prefixes.get(prefix, "STRING")
                after = machine.step(node, machine.terminal(kind))
                if after is not None and (kind[0] not in "FT" or frame.strings < _MOST_STRINGS):
                    scan.node, scan.frame, scan.pos = after, frame, end
                    self.open_string(scan, prefix, quote)
                    return
                after = None
            else:
                scan.node, scan.frame = node, frame
                at = self._layout(scan, group, begin, end)
                if at < 0:
                    return
                continue
            if after is None:
                self._refuse(scan, node, frame, begin, end)
                return
            node, at = after, end

    def _layout(self, scan: Scan, group: int, begin: int, end: int) -> int:
        """A line's end, a comment or a backslash; the position to go on from, or -1."""
        node, frame = scan.node, scan.frame
        assert node is not None
        if frame.closed and (group != _NEWLINE or "\n" in frame.closed):
            scan.refuse(begin, "f-string expression part cannot include a backslash, '#' or a line's end")
            return -1
        if group != _SLASH:
            scan.separate("\n", frame.level, begin)
        else:
            following = self._continuation(scan, begin)
            if following == len(scan.text):
                scan.part, scan.pos = "\\\n", following
                return -1
            return following
        if frame is not self.top:
            if group == _NEWLINE:
                if frame is self.wild and (outcome := self._outcome(node)):
                    scan.ends += [(end + scan.shift, each) for each in outcome.split()]
                return end
        else:
            block = self._ended(node, scan.block)
            if block is None:
                scan.refuse(begin, self.why(node))
                return -1
            if group == _NEWLINE:
                scan.local = False
                scan.marks.append(LineEnd(block.column, self._outcome(node), block.context))
                scan.block = block
                self._begin(scan)
                scan.pos = end
                scan.began = end + scan.shift
                return -1
        scan.kind, scan.pos = COMMENT, end
        return -1

    def _ended(self, node: Node, block: Block) -> Block | None:
        """The block after a line that ends here; None where it cannot end."""
        outcome = self._outcome(node)
        return block.after(outcome) if outcome else None

    def _outcome(self, node: Node) -> str:
        """What the line was if it ends here; '' where it cannot end."""
        outcome = self.outcomes.get(node)
        if outcome is None:
            after = self.machine.step(node, self.newline)
            outcome = ""
            if after is not None:
                bits = self.machine.accepts(after)
                outcome = self.machine.spelling[bits.bit_length() - 1]
                if bits & (bits - 1):  # a line whose beginning is missing can be of several kinds
                    opens = bits & self._opens
                    outcome = "$broken" if not opens else "$broken+" if opens == bits else "$broken $broken+"
            self.outcomes[node] = outcome
        return outcome

    def _number(self, scan: Scan, node: Node, frame: Frame, begin: int) -> tuple[int, Node] | None:
        text, size = scan.text, len(scan.text)
        match = NUMBER_RUN.match(text, begin)
        assert match is not None
        run = match[0]
        end = match.end()
        if not self._viable(run[:2], node, frame):
            self._refuse(scan, node, frame, begin, end)
            return None
        if end == size:
            self._pend(scan, node, frame, begin, shorten(run))
            return None
        length = number_end(run)
        if length < 0:
            scan.refuse(end, "invalid number")
            return None
        end = begin + length
        imaginary = run[length - 1] in "jJ" and run[:2] not in ("0x", "0X")
        after = self.machine.step(node, self._imaginary if imaginary else self._real)
        if after is None:
            self._refuse(scan, node, frame, begin, end)
            return None
        follows = _NAME_CHARACTER.match(text, end)
        if follows is None or not (self._checked or end < match.end()):
            return end, after
        word = known = follows[0]
        accepts, table = self.machine.accepts(after), self.words.after_number
        while known and not table.get(known, 0) & accepts:
            known = known[:-1]
        if known != word or (follows.end() < size and word not in self.words.words):
            scan.refuse(max(end + len(known), match.end()), "invalid number")  # '1e' may still get an exponent
            return None
        if follows.end() == size:
            scan.node, scan.frame, scan.part, scan.pos = node, frame, text[begin:], size
            return None
        return end, after

    def _field_sign(self, scan: Scan, node: Node, frame: Frame, begin: int, sign: str) -> None:
        """'}', ':' or '!' directly inside a replacement field."""
        after = self.machine.step(node, self._field_signs[sign[0]])
        if after is None:
            scan.refuse(begin + (sign[0] == "!" and bool(self._viable("!", node, frame))), self.why(node))
            return
        scan.separate(sign[0], frame.level, begin)
        scan.node, scan.pos = after, begin + 1
        if sign == "}":
            assert frame.parent is not None
            scan.frame, scan.kind = frame.parent, LITERAL
        elif sign == "!":
            scan.frame, scan.kind = frame, CONVERSION
        else:
            scan.frame, scan.kind = frame.push("s", None, self.nested), LITERAL

    def _bad_name(self, scan: Scan, node: Node, frame: Frame, begin: int, word: str) -> None:
        good = 0
        while word[: good + 1].isidentifier():
            good += 1
        if good and not self._viable(word[:good], node, frame):
            self._refuse(scan, node, frame, begin, begin + good)
        else:
            scan.refuse(begin + good, f"invalid character {word[good]!r}")

    def _pend(self, scan: Scan, node: Node, frame: Frame, begin: int, part: str) -> None:
        """The text ends in a token: keeps it if the parser has a use for what it can become."""
        if self._viable(part, node, frame):
            scan.node, scan.frame, scan.part, scan.pos = node, frame, part, len(scan.text)
        else:
            self._refuse(scan, node, frame, begin, len(scan.text))

    def _viable(self, part: str, node: Node, frame: Frame) -> int:
        """Whether a token that begins with ``part`` can come next."""
        accepts = self.machine.accepts(node)
        first = part[0]
        if first.isdigit() or (first == "." and part[1:2].isdigit()):
            return self.words.number_mask(part) & accepts
        if first.isalpha() or first == "_" or first > "\x7f":
            return self.words.name_mask(part) & accepts
        if frame.opener == "r" and first in ":}!":
            bits = 1 << self._field_signs[first] if len(part) == 1 else 0
            return (bits | (self.words.signs[part] if first == "!" else 0)) & accepts
        if part == "..":
            dot = self.words.operators["."]
            after = self.machine.step(node, dot)
            return accepts & 1 << self.words.operators["..."] or (
                self.machine.accepts(after) & 1 << dot if after else 0
            )
        return self.words.signs.get(part, 0) & accepts

    def _refuse(self, scan: Scan, node: Node, frame: Frame, begin: int, end: int) -> None:
        """Refuses at the first character of the token with which it became useless."""
        text = scan.text
        for stop in range(begin + 1, min(end, begin + 16) + 1):
            part = text[begin:stop]
            bits = (
                self.machine.accepts(node) & 1 << self.machine.terminal(self.words.prefixes.get(part[:-1], "STRING"))
                if part[-1] in "'\""
                else self._viable(part, node, frame)
            )
            if not bits:
                scan.refuse(stop - 1, self.why(node))
                return
        scan.refuse(end, self.why(node))

    def why(self, node: Node) -> str:
        """What would have been accepted, where that is one thing."""
        bits = self.machine.accepts(node)
        only = [s for n, s in enumerate(self.machine.spelling) if bits >> n & 1 and s in _EXPECTED]
        if len(only) == 1 and bits.bit_count() < 40:
            return f"expected {only[0]}"
        return "invalid syntax"
