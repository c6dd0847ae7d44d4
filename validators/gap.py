"""Closing a gap: a short text that joins what stands left of the cursor to what stands right of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from validators.beginnings import Beginnings
from validators.blocks import Block, tail
from validators.closing import Closer
from validators.lines import CODE, COMMENT, START, STRING, Line
from validators.literals import string_kind
from validators.right import Right
from validators.scan import Scan
from validators.scanner import Scanner
from validators.skeletons import Skeletons

__all__ = ["Gap"]

_MOST_SKELETONS = 400
_MOST_BEGINNINGS = 6  # likely ones of one kind
_MOST_CUTS = 24
_MOST_MISSING = 4
_MOST_PLACES = 20_000  # of which is known whether the right-hand text joins them
_READ = 20_000  # characters of the right-hand text that are looked at for its first line
_WORD = re.compile(r"\w+")
# What a statement can begin with so that almost any rest may follow, before brackets and quotes.
_STATEMENTS = (
    "", "x = ", "x", "def x", "class x", "for x in ", "if ", "if x", "with ", "for ", "def ", "class ", "return ", "x.",
    "@", "import ", "from ", "from x import ", "while ", "lambda ", "not ", "x = lambda ", "def x() -> ", "with x as ",
)  # fmt: skip
_QUOTES = ('"', "'", '"""', "'''")
# What may be missing between an open expression or header and its rest; the likely ones first.
_FILLERS = (
    "", "x", " ", " x", ",", "x,", ", x", "(x)", "=", "=x", ".", "(", "[", "{", "0", "+", " in ", " in x", " x in ",
    "x in x", " x in x", ":", "x:", ": x", " as ", " as x", " if ", " if x else ", " if x else x", " else ",
    " else x", " x else x", " for x in ", " for x in x", "x for x in ", "x for x in x", ":x for x in x", " import ",
    " import x", " x import x", "x import x", "x:x", "x:x,", "=x,", "x=", ",x=", ", *", ", **", "*", "lambda ",
    "lambda:", " lambda:", "x.", "()", "():", "x():", " x():", " x():\n", " x:", " and ", " not in ", "yield ", "}",
    "x}", "r", "!r", ":=", "->x", " from ",
)  # fmt: skip


class _Entry(NamedTuple):
    """What the right-hand text may begin in: what opens it, and the reading of the text in it."""

    opener: str
    scan: Scan


class _Start(NamedTuple):
    """What the first line of the right-hand text is with some beginning; what it can stand behind depends on this."""

    at: int
    """Where the next line begins."""
    block: Block
    """Behind the line, in blocks of which nothing is known."""
    word: str
    """What the line begins with if it goes on with a statement."""


class _Places:
    """Where the first line of the right-hand text may begin behind a finished line, each with what leads there.

    Found when they are asked for; iterated again without new work.
    """

    def __init__(self, scanner: Scanner, line: Line, block: Block, skeletons: Iterable[str]) -> None:
        self._found: list[tuple[Line, Block, str]] = []
        self._more = self._find(scanner, line, block, skeletons)

    def __iter__(self) -> Iterator[tuple[Line, Block, str]]:
        yield from self._found
        for found in self._more:
            self._found.append(found)
            yield found

    @staticmethod
    def _find(
        scanner: Scanner, line: Line, block: Block, skeletons: Iterable[str]
    ) -> Iterator[tuple[Line, Block, str]]:
        tried: set[tuple[Line, Block]] = set()
        for skeleton in dict.fromkeys(skeletons):
            accepted, place, inside, _ = scanner.run(line, block, skeleton)
            if accepted == len(skeleton) and (place, inside) not in tried:
                tried.add((place, inside))
                yield place, inside, skeleton
                if len(tried) > _MOST_SKELETONS:
                    break


class Gap:
    """Closes gaps in front of one right-hand text. What has been found out about that text is kept."""

    def __init__(self, scanner: Scanner, closer: Closer, beginnings: Beginnings, right: Right) -> None:
        self._scanner = scanner
        self._beginnings = beginnings
        self._skeletons = Skeletons(scanner, right.text)
        self._closer = closer
        self._right = right
        self._tail = tail()
        self._joined: dict[tuple[Line, Block], bool] = {}
        self._begun: list[tuple[str, _Start]] = []
        self._more = self._begin()

    def closing(self, line: Line, block: Block) -> str | None:
        """The first text found after which the right-hand text completes the program; natural ones are tried first."""
        ending = self._closer.ending(line, block)
        if ending is None:
            return None
        for end in range(len(ending) + 1):
            for text in (ending[:end], ending[:end] + "\n"):
                if self._joins(line, block, text):
                    return text
        ends = ending + "\n"
        _, fresh, closed, _ = self._scanner.run(line, block, ends)
        places: dict[tuple[int, str], _Places] = {}
        failed = set[_Start]()
        filled = False
        for beginning, start in self._starts():
            if beginning and not filled:
                filled = True
                found = self._filled(ending, line, block)
                if found is not None:
                    return found
            if start in failed:
                continue
            key = start.at, start.word
            if key not in places:
                places[key] = _Places(self._scanner, fresh, closed, self._skeletons.of(closed, *key))
            for place, inside, skeleton in places[key]:
                if self._joins(place, inside, beginning):
                    return ends + skeleton + beginning
            failed.add(start)
        return None if filled else self._filled(ending, line, block)

    def _starts(self) -> Iterator[tuple[str, _Start]]:
        """As ``_begin``; what was found before comes without new work."""
        yield from self._begun
        for found in self._more:
            self._begun.append(found)
            yield found

    def _joins(self, line: Line, block: Block, text: str) -> bool:
        """Whether ``text`` and the right-hand text behind it end a program."""
        if text:
            accepted, line, block, _ = self._scanner.run(line, block, text)
            if accepted < len(text):
                return False
        joined = self._joined.get((line, block))
        if joined is None:
            if len(self._joined) >= _MOST_PLACES:
                self._joined.clear()
            joined = self._joined[line, block] = self._right.complete(line, block)
        return joined

    def _filled(self, ending: str, line: Line, block: Block) -> str | None:
        """The first text found that goes on with the open line, closes some of it, and lets the rest go on in it."""
        scanner = self._scanner
        places: dict[tuple[Line, Block], str] = {}
        cuts = [at for at in range(len(ending) + 1) if not ending[max(at - 1, 0) : at + 1].isalnum() or not at]
        for cut in cuts[:_MOST_CUTS]:
            _, place, inside, _ = scanner.run(line, block, ending[:cut])
            places.setdefault((place, inside), ending[:cut])
        begun = line.part if line.kind == CODE and line.part.isalpha() else ""
        rests = [word[len(begun) :] for word in scanner.words.words if begun and word.startswith(begun)]
        rests += [rest + more for rest in rests for more in (" ", " x")]
        tried: dict[tuple[Line, Block], str] = {}
        for filler in (*_FILLERS, *self._continued, *rests):
            for (begin, within), cut_text in places.items():
                accepted, place, inside, _ = scanner.run(begin, within, filler)
                if accepted < len(filler) or (place, inside) in tried:
                    continue
                tried[place, inside] = cut_text + filler
                for opening in self._openings:
                    if self._joins(place, inside, opening):
                        return cut_text + filler + opening
        for (place, inside), text in tried.items():  # rather than that the rest of the line becomes a comment
            if self._joins(place, inside, "#"):
                return text + "#"
        return None

    @cached_property
    def _continued(self) -> tuple[str, ...]:
        """A backslash, where the right-hand text begins with the end of its line."""
        return ("\\",) if self._right.text[0] in "\r\n" else ()

    @cached_property
    def _openings(self) -> list[str]:
        """Brackets and quotes that the rest of a line at the beginning of the text may have been opened by."""
        text = self._right.text
        found = [""]
        for opener, scan in self._entries:
            if opener == "#" or not (scan.ends or scan.kind == START or len(text) >= _READ):
                continue
            for at in range(min(len(scan.missing), _MOST_MISSING) + 1):
                brackets = scan.missing[at:]
                called = (
                    f"{brackets[:cut]}x{brackets[cut:]}" for cut in range(1, len(brackets)) if brackets[cut] == "("
                )
                found += [each + opener for each in (brackets, *called) if each + opener not in found]
        return sorted(found, key=lambda opening: ("x" in opening, len(opening)))

    @cached_property
    def _entries(self) -> list[_Entry]:
        """What the text may begin in, as far as at least its first character can be read in it."""
        text, found = self._right.text[:_READ], []
        for opener, entry in _entries(self._scanner, text):
            scan = self._scanner.scan(entry, self._tail, text)
            if scan.pos + scan.shift:
                found.append(_Entry(opener, scan))
        return found

    def _begin(self) -> Iterator[tuple[str, _Start]]:
        """Beginnings of a line that the first line of the text can be the rest of: the likely ones, then all."""
        if (start := self._begins("")) is not None:
            yield "", start
        for opener, scan in self._entries:
            number = 0
            fillers = ("", "x") if scan.missing else ("",)
            for brackets, statement, filler in itertools.product(_written(scan.missing), _STATEMENTS, fillers):
                beginning = statement + brackets + filler + opener
                start = self._begins(beginning) if beginning else None
                if start is not None:
                    yield beginning, start
                    number += 1
                    if number == _MOST_BEGINNINGS:
                        break
        for beginning in self._beginnings.of(self._right.text[:_READ]):
            if (start := self._begins(beginning)) is not None:
                yield beginning, start

    def _begins(self, beginning: str) -> _Start | None:
        """What the text's first line is behind this beginning; None if that is no line."""
        text = self._right.text[:_READ]
        first = self._scanner.scan(self._scanner.start_line, self._tail, beginning + text, once=True)
        if first.refused or not (first.began or len(self._right.text) < _READ):
            return None
        at = first.began - len(beginning) if first.began else len(text)
        return _Start(at, first.block, self._skeletons.partner(beginning))


def _written(brackets: str) -> list[str]:
    """Ways to open these brackets: alone, for a dictionary, for a call."""
    found = [brackets, brackets.replace("{", "{x:")]
    for each in found[:]:
        found += [f"{each[:at]}x{each[at:]}" for at in range(1, len(each)) if each[at] == "("]
    return list(dict.fromkeys(found))


def _entries(scanner: Scanner, text: str) -> Iterator[tuple[str, Line]]:
    """What a text may begin in, with what opens it."""
    node, wild = scanner.anywhere, scanner.wild
    yield "", scanner.line(CODE, node, wild, "", None)
    for quote in _QUOTES:
        kind = string_kind("r", quote[0], len(quote) == 3)
        yield quote, scanner.line(STRING, node, wild, "", kind)
        literal = wild.push("f", string_kind("rf", quote[0], len(quote) == 3), scanner.nested)
        yield f"f{quote}{{", scanner.line(CODE, node, literal.push("r", None, scanner.nested), "", None)
    word = _WORD.match(text)
    for keyword in scanner.words.words if word else ():
        begun = keyword.removesuffix(word[0]) if word else ""
        if begun and begun != keyword:
            yield begun, scanner.line(CODE, node, wild, begun, None)
    if text[0] in "\r\n":  # behind the backslash of a line that goes on
        yield "\\", scanner.line(CODE, node, wild, "\\", None)
        for quote in _QUOTES[:2]:
            yield f"{quote}\\", scanner.line(STRING, node, wild, "\\", string_kind("", quote, False))
    yield "#", scanner.line(COMMENT, node, wild, "", None)
