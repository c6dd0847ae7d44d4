"""The scanner: feeds text to the parser token by token and says at which character nothing can follow.

It is CPython's tokenizer (Parser/lexer/lexer.c) made resumable: text may stop anywhere. The unfinished token is kept
as ``Line.part``, together with the question whether the parser has a use for any token that it can still become.
"""

from __future__ import annotations

import re
import unicodedata

from validators.blocks import Block
from validators.layout import FRESH, NAME_CHARACTERS, LayoutScanner
from validators.lines import CODE, CONVERSION, LITERAL, START, Frame, Line, Reading
from validators.literals import NUMBER_RUN, number_end, shorten
from validators.machine import Machine, Node
from validators.scan import Scan
from validators.strings import MOST_BRACKETS
from validators.words import Words

__all__ = ["FORBIDDEN", "OPENERS", "Scanner"]

FORBIDDEN = re.compile("[\0\ud800-\udfff]")  # source text is UTF-8 without NUL
OPENERS = {")": "(", "]": "[", "}": "{"}
_STRING, _NAME, _NUMBER, _SIGN = 1, 2, 3, 4  # groups of the pattern that finds tokens, before NEWLINE, a '#', SLASH
_MOST_STRINGS = 149  # MAXFSTRINGLEVEL, less the file itself
_MOST_LINES = 20_000  # interned, before the table is dropped
_LONGEST_MEMO = 64  # characters
_MOST_KEYWORDS = 500  # names of keyword arguments of one call that are kept; every one of them costs a copy of them
_MOST_MEMOS = 30_000  # texts remembered over all lines, before they are forgotten
_LONGEST_SPECIAL = 16  # characters: no keyword, prefix or operator is as long
_SEPARATORS = frozenset([",", ";", ":", "=", ":=", ")", "]", "}", "+=", "-=", "*=", "@=", "/=", "%=", "&=", "|=", "^="])


class Scanner(LayoutScanner):
    """Scans for one Python version. Lines and configurations are interned here."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        version = machine.rules.version
        self.words = Words(machine)
        self.characters = 0  # read so far, unfinished tokens again each time
        self.characters_known = 0  # of texts that had been read in the same place before
        self._memos = 0
        self._lines: dict[tuple[int, Node | None, Frame, str, object], Line] = {}
        prefixes = "|".join(sorted({p.lower() for p in self.words.prefixes}, key=len, reverse=True))
        signs = sorted(self.words.operators, key=len, reverse=True)
        self._token = re.compile(
            rf"[ \t\f]*(?:((?i:{prefixes})?['\"])|([A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)"
            rf"|(\.?[0-9])|({'|'.join(map(re.escape, signs))}|!)|(\r\n?|\n)|(\#)|(\\))?"
        ).match
        self._growing = {sign for sign in (*signs, "!", "..") if self._grows(sign)}
        self._repeats = version == (3, 8)  # its parser refuses repeated keyword arguments; later the compiler does
        self._checked = version >= (3, 10)
        self._real, self._imaginary = machine.terminal("NUMBER"), machine.terminal("IMAGINARY")
        self._conversion_done = machine.terminal("CONVERSION")
        self._field_signs = {sign: machine.terminal(f"'f{sign}'") for sign in ":}!"}
        self.handlers = (
            self._start, self._code, self._string, self._literal, self._comment, self._conversion, self._skip,
        )  # fmt: skip
        self.start_line = self.line(START, None, self.top, "", FRESH)

    def _matters(self, word: str, frame: Frame) -> bool:
        """Whether the letters of an unfinished name make a difference to what it can become."""
        return word in self.words.starts or (self._repeats and frame.opener == "(" and len(word) <= _LONGEST_MEMO)

    def _is_keyword(self, node: Node) -> bool:
        """Whether a '=' behind a name makes it a keyword argument."""
        rules = self.machine.rules
        return any(rules.rule_of[q] == "arguments" and "'='" in rules.edges[q] for q, _ in node.items)

    def _is_argument(self, node: Node) -> bool:
        """Whether a '=' has made a name a keyword argument."""
        return all(self.machine.rules.rule_of[q] == "arguments" for q, _ in node.items)

    def _grows(self, sign: str) -> bool:
        return sign in ("!", ".", "..") or any(o != sign and o.startswith(sign) for o in self.words.operators)

    def line(self, kind: int, node: Node | None, frame: Frame, part: str, detail: object) -> Line:
        key = (kind, node, frame, part, detail)
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) > _MOST_LINES:
                self._lines.clear()
                self._memos = 0
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
            self.characters_known += len(text)
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
            if self._memos >= _MOST_MEMOS:
                for each in self._lines.values():
                    each.memo.clear()
                self._memos = 0
            line.memo[whole] = reading
            self._memos += 1
        return reading

    def place(self, scan: Scan) -> Line:
        return self.line(scan.kind, scan.node, scan.frame, scan.part, scan.detail)

    def scan(self, line: Line, block: Block, text: str, once: bool = False) -> Scan:
        """Reads until the text ends or nothing can follow; with ``once`` also until a logical line has ended."""
        scan = Scan(line, block, text)
        handlers = self.handlers
        while not scan.refused and scan.pos < len(scan.text) and not (once and scan.began):
            handlers[scan.kind](scan)
        self.characters += scan.pos
        return scan

    def _conversion(self, scan: Scan) -> None:
        character = scan.text[scan.pos]
        if not scan.part:
            if character in "sra":
                scan.part = character
                scan.pos += 1
            else:
                scan.refuse(scan.pos, "f-string: invalid conversion character: expected 's', 'r', or 'a'")
        elif NAME_CHARACTERS.match(character) or (not self.nested and character not in ":}"):
            scan.refuse(scan.pos, "f-string: expecting ':' or '}'")
        else:
            assert scan.node is not None
            scan.node = self.machine.step(scan.node, self._conversion_done)
            scan.kind, scan.part = CODE, ""

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
                if not word.isascii() and not self.known.identifier(word):
                    self._bad_name(scan, node, frame, begin, word)
                    return
                if self._repeats and not word.isascii():  # 3.8 alone compares a name as it is kept
                    plain = unicodedata.normalize("NFKC", word)
                    word = plain if "__debug__".startswith(plain) else word
                if end == size:
                    self._pend(scan, node, frame, begin, word if self._matters(word, frame) else "zz")
                    return
                after = machine.step(node, terminals.get(word, name))
                if self._repeats and after is not None and frame.opener == "(" and self._is_keyword(after):
                    word = unicodedata.normalize("NFKC", word)
                    if word in frame.keywords and machine.accepts(after) == 1 << operators["="]:
                        scan.refuse(end, f"keyword argument repeated: {word}")
                        return
                    frame = frame.naming(frame.keywords, word)
            elif group == _SIGN:
                sign = text[begin:end]
                if frame.opener == "r" and sign[0] in ":}!" and sign != "!=" and (sign != "!" or end < size):
                    self._field_sign(scan, node, frame, begin, sign)
                    return
                if sign == "}" and frame.opener == "?" and frame.parent is not None:
                    # the field's own end, or that of an unknown '{': the former is likelier
                    field = frame.parent.push("r", None, self.nested)
                    self._field_sign(scan, node, field, begin, sign)
                    return
                if end == size and sign in growing:
                    self._pend(scan, node, frame, begin, sign)
                    return
                if sign == "." and end + 1 == size and text[end] == ".":
                    self._pend(scan, node, frame, begin, "..")
                    return
                after = machine.step(node, operators.get(sign, self.words.conversion))
                if after is not None:
                    if sign == "!":
                        scan.node, scan.frame, scan.pos, scan.kind = after, frame, end, CONVERSION
                        return
                    if self._repeats and sign == "=" and frame.word and self._is_argument(after):
                        more = {frame.word} if len(frame.keywords) < _MOST_KEYWORDS else set()
                        frame = frame.naming(frame.keywords | more, "")
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
                        if frame.opener == "?" and frame.parent is not None:
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
                    self._refuse(scan, node, frame, begin, end - 1)
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
                if text[begin : end + 1] == "..":
                    end += 1  # it was to be '...'
                self._refuse(scan, node, frame, begin, end)
                return
            node, at = after, end

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
        follows = NAME_CHARACTERS.match(text, end)
        if follows is None or not (self._checked or end < match.end()):
            return end, after
        word, known = follows[0], follows[0][:_LONGEST_SPECIAL]
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
            scan.frame, scan.kind = frame.parent.behind_field(self.nested), LITERAL
        elif sign == "!":
            scan.frame, scan.kind = frame, CONVERSION
        else:
            scan.frame, scan.kind = frame.push("s", None, self.nested), LITERAL

    def _bad_name(self, scan: Scan, node: Node, frame: Frame, begin: int, word: str) -> None:
        good = self.known.beginning(word)
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
        for stop in range(begin + 1, min(end, begin + _LONGEST_SPECIAL) + 1):
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
