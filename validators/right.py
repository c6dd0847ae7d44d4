"""The text right of the cursor.

Whatever stands left of the cursor can be finished and be followed by a new line, so the right-hand text never takes a
continuation away: a text is viable in front of it if it is viable at all and *some* program ends in it.
What the right-hand text decides is where the gap is closed (``Right.complete``). Its own broken end is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from validators.blocks import Block, tail
from validators.closing import Closer
from validators.contracts import Problem
from validators.lines import CODE, COMMENT, CONVERSION, LITERAL, START, STRING, Frame, Line
from validators.literals import string_kind
from validators.recovery import Places
from validators.scanner import FORBIDDEN, Scanner

__all__ = ["Reader", "Right"]

_MOST_MEMOS = 4_096
_WINDOW = 256  # characters read at first in search of a line's end
_EARLY = "unexpected end of the text"
_WORD = re.compile(r"\w+")
_NAMED = re.compile(r"[A-Za-z0-9 -]*\}")


class Right:
    """A right-hand text that some left-hand text can stand before. Values; the memo knows where lines lead."""

    __slots__ = ("_closer", "_memo", "_scanner", "text")

    def __init__(self, scanner: Scanner, closer: Closer, text: str) -> None:
        self.text = text
        self._scanner = scanner
        self._closer = closer
        self._memo: dict[tuple[int, Block], bool] = {}

    def complete(self, line: Line, block: Block) -> bool:
        """Whether this text, put at this place, ends a program."""
        if not self.text:
            return self._closer.complete(line, block)
        scan = self._scanner.scan(line, block, self.text, once=True)
        if scan.refused:
            return False
        at = scan.pos + scan.shift
        if at == len(self.text):
            return self._closer.complete(self._scanner.place(scan), scan.block)
        key = (at, scan.block)
        known = self._memo.get(key)
        if known is None:
            rest = self._scanner.scan(self._scanner.start_line, scan.block, self.text[at:])
            known = not rest.refused and self._closer.complete(self._scanner.place(rest), rest.block)
            if len(self._memo) > _MOST_MEMOS:
                self._memo.clear()
            self._memo[key] = known
        return known


class Reader:
    """Reads a text whose beginning is missing: is it the end of some program, and if not, how much of it is?"""

    def __init__(self, scanner: Scanner, text: str) -> None:
        self._scanner = scanner
        bad = FORBIDDEN.search(text)
        self._cut = bad is not None
        if bad is not None:
            text = text[: max(text.rfind("\n", 0, bad.start()), text.rfind("\r", 0, bad.start())) + 1]
        self._length = len(text)
        self._text = text if text.endswith(("\n", "\r")) else text + "\n"
        self._tail = tail()
        self._rests: dict[tuple[int, Block], tuple[int, int, str]] = {}

    def read(self, line: Line) -> tuple[int, Problem | None]:
        """(characters that can be used, why the others cannot). ``line``: the place left of the gap, tried first."""
        size = len(self._text)
        best, reason = (-1, -1), ""
        for entry, skipped in self._entries(line):
            scan = self._scanner.scan(entry, self._tail, self._text[skipped:])
            stop = scan.pos + scan.shift + skipped
            if not scan.ends and (0, stop) > best:
                best, reason = (0, stop), scan.reason or _EARLY
            for at, outcome in scan.ends:
                kept, stop, why = self._rest(at + skipped, outcome)
                if kept == size and not self._cut:
                    return size, None
                if kept == size:
                    why = "source code cannot contain this character"
                if (kept, stop) > best:
                    best, reason = (kept, stop), why
        usable = min(best[0], self._length)
        return usable, Places(self._text).problem("right", usable, reason)

    def _rest(self, at: int, outcome: str) -> tuple[int, int, str]:
        """From a line's start: (how much can be used, where reading stopped, why).

        Reads line by line and keeps what it found for every (position, block), so that beginnings which lead to the
        same line cost its reading once.
        """
        block = self._tail.after(outcome)
        assert block is not None
        text, size = self._text, len(self._text)
        passed: list[tuple[int, Block]] = []
        while (at, block) not in self._rests:
            if at == size:
                self._rests[at, block] = (size if block.closed() else 0, size, _EARLY)
                break
            passed.append((at, block))
            scan, window = None, _WINDOW
            while scan is None or not (scan.began or scan.refused or window >= 2 * (size - at)):
                scan = self._scanner.scan(self._scanner.start_line, block, text[at : at + window], once=True)
                window *= 2
            if not scan.began:
                blank = scan.kind == START and not scan.refused and not scan.part and scan.block.closed()
                stop = at + scan.pos + scan.shift
                self._rests[at, block] = (size if blank else at if block.closed() else 0, stop, scan.reason or _EARLY)
                break
            at, block = at + scan.began, scan.block
        found = self._rests[at, block]
        for each, inside in reversed(passed):
            if not found[0] and inside.closed():
                found = (each, *found[1:])
            self._rests[each, inside] = found
        return found

    def _entries(self, line: Line) -> Iterator[tuple[Line, int]]:
        """Places in which the text may begin, the likeliest first: as the left-hand text stands, then any other.

        With each the characters that belong to what stands before it, whatever that is.
        """
        scanner, text = self._scanner, self._text
        node, wild = scanner.anywhere, scanner.wild
        frames = _frames(scanner, line.frame)
        if line.kind in (STRING, LITERAL, CODE, CONVERSION) and line.part:
            yield scanner.line(line.kind, node, frames[0], line.part, line.detail), 0
        if line.kind == STRING and line.part not in ("2", "3"):
            yield scanner.line(STRING, node, frames[0], "", line.detail), 0
        if line.kind == COMMENT:
            yield scanner.line(COMMENT, node, frames[0], "", None), 0
        for frame in frames:
            yield scanner.line(LITERAL if frame.opener in "fst" else CODE, node, frame, "", None), 0
        for part in self._joints(text):
            yield scanner.line(CODE, node, wild, part, None), 0
        kinds = [(quote, triple) for quote in ('"', "'") for triple in (False, True)]
        escaped = text[0] in "\"'\r\n\\"  # means something else behind a backslash
        for quote, triple in kinds:  # raw strings allow all that others do
            yield scanner.line(STRING, node, wild, "", string_kind("r", quote, triple)), 0
            if escaped:
                yield scanner.line(STRING, node, wild, "\\", string_kind("r", quote, triple)), 0
        yield scanner.line(COMMENT, node, wild, "", None), 0
        named = _NAMED.match(text)  # may be the end of an escape
        for quote, triple in kinds:
            literal = wild.push("f", string_kind("rf", quote, triple), scanner.nested)
            field = literal.push("r", None, scanner.nested)
            yield scanner.line(LITERAL, node, literal, "", None), 0
            if text[0] in "{}" or escaped:
                yield scanner.line(LITERAL, node, literal, text[0] if text[0] in "{}" else "\\", None), 0
            yield scanner.line(CODE, node, field, "", None), 0
            yield scanner.line(LITERAL, node, field.push("s", None, scanner.nested), "", None), 0
            within = literal.push("?", None, scanner.nested)  # brackets in a field of which nothing is known
            yield scanner.line(CODE, node, within, "", None), 0
            if named:
                yield scanner.line(LITERAL, node, literal, "", None), named.end()
            for inner, long in kinds:
                yield scanner.line(STRING, node, within, "", string_kind("r", inner, long)), 0
                if escaped:
                    yield scanner.line(STRING, node, within, "\\", string_kind("r", inner, long)), 0

    def _joints(self, text: str) -> Iterator[str]:
        """Beginnings of tokens that the text may go on with."""
        word = _WORD.match(text)
        begun = word[0] if word else ""
        if text[len(begun) : len(begun) + 1] in ("'", '"'):  # a string whose prefix began before the text
            for prefix in self._scanner.words.prefixes:
                if prefix.islower() and prefix.endswith(begun.lower()) and len(prefix) > len(begun):
                    yield prefix[: len(prefix) - len(begun)]
        if word is None:
            for sign in self._scanner.words.operators:
                for cut in range(1, len(sign)):
                    if text.startswith(sign[cut:]):
                        yield sign[:cut]
            return
        yield "zz"
        for keyword in self._scanner.words.words:
            if keyword.endswith(word[0]) and keyword != word[0]:
                yield keyword[: -len(word[0])]
        yield from ("1", "0x0", "1e", "0b", "0o")


def _frames(scanner: Scanner, frame: Frame | None) -> list[Frame]:
    """The brackets of the left-hand text with unknown ones around them, innermost first, then fewer of them."""
    chain: list[Frame] = []
    while frame is not None and frame.parent is not None:
        chain.append(frame)
        frame = frame.parent
    found = [scanner.wild]
    for each in reversed(chain):
        kind = each.kind if each.opener == "f" else None
        found.append(found[-1].push(each.opener, kind, scanner.nested))
    return [frame for frame in reversed(found) if frame.opener in "?frst" or frame is found[-1]]
