"""What tokens of a vocabulary are to the parser: the terminals that the scanner makes of a text.

Which terminals a text is depends on the place in the *lexical* sense alone (inside a string, behind ``<``, within
brackets); whether the parser has a use for them is another matter. The ``Lexer`` is the scanner itself with a parser
that accepts everything and takes notes, so the two cannot come to disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from validators.blocks import CONTEXTS, root
from validators.lines import CODE, COMMENT, START, Frame, Line
from validators.literals import NUMBER_RUN, StringKind, number_end
from validators.machine import Machine, Node
from validators.scan import Scan
from validators.scanner import OPENERS, Scanner

__all__ = ["MOST_CLOSED", "ODD", "Chain", "Lexer", "Way"]

MOST_CLOSED = 6  # brackets that a token may close; others are looked at one by one
_LONGEST_WAY = 24  # terminals; the same
_ALL = (1 << 256) - 1

Chain = tuple[tuple[str, StringKind | None], ...]
"""Openers of frames, innermost first. The last may be 'B': brackets inside others; without it there are no more."""


class Way(NamedTuple):
    """One way to read a text: these terminals, then the beginning of one of ``pending`` (a mask; -1: nothing)."""

    path: tuple[int, ...]
    pending: int


ODD = (Way((), 0),)
"""Instead of ways: what the text is depends on more than its lexical place."""


class _Trace(Node):
    """The terminals so far."""

    __slots__ = ("path",)

    def __init__(self, path: tuple[int, ...]) -> None:
        super().__init__((), False)
        self.path = path


class _Recorder(Machine):
    """Accepts everything. Numbers terminals as ``machine`` does."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.rules.version)
        self.rules, self.index, self.spelling = machine.rules, machine.index, machine.spelling
        self._newline = machine.terminal("NEWLINE")
        self._simple = machine.mask("$simple")

    def entry(self, *rules: str) -> Node:
        return _Trace(())

    def anywhere(self, *rules: str) -> Node:
        return _Trace(())

    def step(self, node: Node, terminal: int) -> Node | None:
        found = node.steps.get(terminal)
        if found is None and isinstance(node, _Trace):
            found = node.steps[terminal] = _Trace((*node.path, terminal))
        return found or node  # what stands on a line of its own is not recorded

    def accepts(self, node: Node) -> int:
        return self._simple if isinstance(node, _Trace) and node.path[-1:] == (self._newline,) else _ALL


class Lexer(Scanner):
    """Reads single texts from lexical places."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(_Recorder(machine))
        self._grammar = machine
        self._some = machine.anywhere(*{rule for rules in CONTEXTS.values() for rule in rules})
        self._begin_node = _Trace(())
        self._inside = Frame("B", self.top, None, 1, 0, 0, "")
        self._block = root()
        self._resolved = False
        self._ended_at: Node | None = None
        self._openers = {machine.terminal(repr(sign)) for sign in "([{"}
        self._interned: dict[tuple[Way, ...], tuple[Way, ...]] = {}
        self.read_count = 0

    def place_in(self, kind: int, part: str, detail: object, chain: Chain, blank: bool = False) -> Line:
        """A place in brackets given by ``chain``. ``blank``: there is no statement around it."""
        return Line(kind, None if blank else self._begin_node, self._frame(chain), part, detail)

    def ways(self, line: Line, text: str) -> tuple[Way, ...]:
        """What ``text`` is there; empty if it is nothing; ODD if that cannot be said."""
        return self._noted(self._read(line, text), text)

    def closing(self, line: Line, text: str, inside: bool) -> tuple[int, tuple[Way, ...]]:
        """How many brackets around the place ``text`` closes, and what it is where those stand in others or in none."""
        chain: list[tuple[str, StringKind | None]] = []
        base: Chain = (("B", None),) if inside else ()
        outermost = self._inside if inside else self.top
        while len(chain) <= MOST_CLOSED:
            frame = self._frame((*chain, *base))
            scan = self._read(Line(line.kind, line.node, frame, line.part, line.detail), text)
            missing = OPENERS.get(scan.text[scan.pos : scan.pos + 1]) if scan.refused else None
            if missing is None or self._resolved or scan.frame is not outermost:
                return len(chain), self._noted(scan, text)
            chain.append((missing, None))
        return 0, ODD

    def _read(self, line: Line, text: str) -> Scan:
        self.read_count += 1
        self._resolved, self._ended_at = False, None
        return self.scan(line, self._block, text)

    def _noted(self, scan: Scan, text: str) -> tuple[Way, ...]:
        if scan.refused:
            unmatched = scan.frame is self._inside and scan.text[scan.pos : scan.pos + 1] in OPENERS
            return ODD if self._resolved or unmatched else ()
        if self._resolved or (self._repeats and "=" in text and "," in text):  # names of keyword arguments matter
            return ODD
        node = scan.node if isinstance(scan.node, _Trace) else None
        if isinstance(self._ended_at, _Trace):
            ways: tuple[Way, ...] = (Way((*self._ended_at.path, self.newline), -1),)
        elif scan.kind in (START, COMMENT) or node is None:
            ways = (Way(node.path if node else (), -1),)
        elif scan.kind == CODE and scan.part and scan.part[0] != "\\":
            ways = tuple(Way(node.path + path, mask) for path, mask in self._pending(scan.part, scan.frame))
        else:
            ways = (Way(node.path, -1),)
        ways = tuple(way for way in ways if len(way.path) <= _LONGEST_WAY or self._possible(way.path))
        return self._interned.setdefault(ways, ways) if all(self._followable(way.path) for way in ways) else ODD

    def _possible(self, path: tuple[int, ...]) -> bool:
        """Whether a program can have these terminals in a row; rulers such as ``/*----`` never are code."""
        node: Node | None = self._some
        for terminal in path:
            node = self._grammar.step(node, terminal) if node else None
        return node is not None

    def _followable(self, path: tuple[int, ...]) -> bool:
        """Not so long that following it could go too deep; rows of one sign are no deeper than one of them."""
        return len(path) <= _LONGEST_WAY or (len(set(path)) <= 2 and self._openers.isdisjoint(path))

    def _frame(self, chain: Sequence[tuple[str, StringKind | None]]) -> Frame:
        frame = self.top
        for opener, kind in reversed(chain):
            frame = self._inside if opener == "B" else frame.push(opener, kind, self.nested)
        return frame

    def _resolve(self, scan: Scan, at: int, column: int, tabbed: int) -> None:
        self._resolved = True
        super()._resolve(scan, at, column, tabbed)

    def _outcome(self, node: Node) -> str:
        if self._ended_at is None:
            self._ended_at = node
        return super()._outcome(node)

    def _pending(self, part: str, frame: Frame) -> list[tuple[tuple[int, ...], int]]:
        """What an unfinished token may become, as ``Scanner._viable`` and ``_number`` ask for it."""
        first, words = part[0], self.words
        if first.isdigit() or (first == "." and part[1:2].isdigit()):
            match = NUMBER_RUN.match(part)
            assert match is not None
            if match.end() == len(part):
                return [((), words.number_mask(part))]
            length = number_end(match[0])
            imaginary = match[0][length - 1] in "jJ" and match[0][:2] not in ("0x", "0X")
            return [((self._imaginary if imaginary else self._real,), words.after_number[part[length:]])]
        if first.isalpha() or first == "_" or first > "\x7f":
            return [((), words.name_mask(part))]
        if frame.opener == "r" and first in ":}!":
            bits = 1 << self._field_signs[first] if len(part) == 1 else 0
            return [((), bits | (words.signs[part] if first == "!" else 0))]
        if part == "..":
            dot = words.operators["."]
            return [((), 1 << words.operators["..."]), ((dot,), 1 << dot)]
        return [((), words.signs.get(part, 0))]
