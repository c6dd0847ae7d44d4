"""What a text can be the rest of: beginnings of a logical line, found from the text outwards.

A place in a line is a stack of rule states. The top one is tried first, with everything that may stand below it, by
reading the text from there; where that reads to a line's end the state below is tried, and so on to the rule of a whole
line. Which text leads to such a stack is known from the grammar: for each of its states the lightest way to it from the
beginning of its rule. So whatever ends some line is found, and the lightest beginning first.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from validators.blocks import CONTEXTS, tail
from validators.costs import Costs
from validators.lines import CODE, Frame
from validators.literals import string_kind
from validators.machine import Node
from validators.scanner import Scanner

__all__ = ["Beginnings"]

_MOST_CHARACTERS = 400_000  # that are read in search of one text's beginnings
_COMMENT = 16  # weight of taking the rest of a line for a comment
_PARTNER = 16  # weight of a line that has to follow another one
_MOST_ALIKE = 3  # stacks with one rule at the bottom, from which the text goes on to the same place
_READING = 5  # characters that it costs to begin reading
_QUOTES = ('"', "'", '"""', "'''")
_SPARE = re.compile(r"(?<=\w) (?![\w'\"\0])|(?<=\{) (?!\{)")  # blanks that keep nothing apart
_GLUED = re.compile(r"[\w'\"]")  # what a word must be kept apart from
_WORD = re.compile(r"\w+")
_QUOTE = "\0"  # in a way to a state: the quotes of an f-string, which depend on what the text closes
# How terminals are written, where it is not as in an ending.
_WRITTEN = {
    "BOUND": "x ", "CAPTURE": "x ", "CONVERSION": "r", "FSTRING": f"f{_QUOTE}", "TSTRING": f"t{_QUOTE}",
    "FSTRING_END": _QUOTE, "'f{'": "{ ",
}  # fmt: skip
_NUMBERS = ("1", "0x0", "1e", "0b", "0o")


class _Way(NamedTuple):
    """A text that leads from the beginning of a rule to one of its states."""

    weight: int
    text: str


class _Entry(NamedTuple):
    """Inside what the text begins: a token that ``opener`` has begun, in f-strings with these ``quotes``."""

    opener: str
    frame: Frame
    quotes: tuple[str, ...]
    """Outermost first."""

    @property
    def weight(self) -> int:
        return _COMMENT if self.opener == "#" else len(self.opener) + 2 * len(self.quotes)


_Guess = tuple[int, int, str, tuple[int, ...], _Entry]
"""Weight, a number of its own, what leads there, the rule states from the top on, and inside what the text begins."""


class Beginnings:
    """Beginnings for one version's grammar. What it knows of the grammar is worked out when it is first asked for."""

    def __init__(self, scanner: Scanner, costs: Costs) -> None:
        self._scanner = scanner
        self._costs = costs
        self._rules = scanner.machine.rules
        self._tail = tail()
        self._sentences: dict[str, str] = {}

    def of(self, text: str) -> Iterator[str]:
        """Beginnings of a line with which the first line of ``text``, or of what is there of it, is a whole one."""
        text = text if text.endswith(("\n", "\r")) else text + "\n"
        machine, left, number = self._scanner.machine, _MOST_CHARACTERS, itertools.count()
        heap: list[_Guess] = [(entry.weight, next(number), "", (), entry) for entry in self._entries(text)]
        heapq.heapify(heap)
        possible: dict[_Entry, set[int]] = {}
        alike: Counter[tuple[_Entry, str, int]] = Counter()
        found, next_one = set[str](), "x" if _GLUED.match(text) else ";"
        while heap and left > 0:
            weight, _, written, states, entry = heapq.heappop(heap)
            if not states:
                read, possible[entry] = self._read(entry, self._scanner.anywhere, text)
                ways = self._ways if possible[entry] else {}
            else:
                rule = self._rules.rule_of[states[-1]]
                read, ends = self._read(entry, machine.stack(states, self._below[rule]), text)
                if ends.isdisjoint(possible[entry]):
                    left -= read
                    continue
                ways = self._calls.get(rule, {})
                if rule in self._roots:
                    whole = _SPARE.sub("", written + entry.opener + next_one)[:-1]
                    for beginning in _quoted(whole, entry.quotes, raw="\\" in text):
                        if beginning not in found:
                            found.add(beginning)
                            yield beginning
                else:
                    stop, _ = self._read(entry, machine.stack(states, machine.bottom), text)
                    alike[entry, rule, stop] += 1
                    if alike[entry, rule, stop] > _MOST_ALIKE:
                        ways = {}
            left -= read
            for state, way in ways.items():
                more = way.text + written, (*states, state), entry
                heapq.heappush(heap, (weight + way.weight, next(number), *more))

    def _read(self, entry: _Entry, node: Node, text: str) -> tuple[int, set[int]]:
        """(characters read, where a line can end that the text goes on with) from this configuration on."""
        line = self._scanner.line(CODE, node, entry.frame, "", None)
        scan = self._scanner.scan(line, self._tail, entry.opener + text)
        return scan.pos + scan.shift + _READING, {at for at, _ in scan.ends}

    def _entries(self, text: str) -> Iterator[_Entry]:
        """Whatever the text may begin in, the likely ones first."""
        scanner, wild = self._scanner, self._scanner.wild
        openers = list(self._openers(text))
        yield from (_Entry(opener, wild, ()) for opener in openers)
        deepest = min(text.count("}"), 2 if scanner.nested else 1)
        for depth in range(1, deepest + 1):
            for quotes in itertools.product(_QUOTES, repeat=depth):
                frame = wild
                for quote in quotes:
                    literal = frame.push("f", string_kind("rf", quote[0], len(quote) == 3), scanner.nested)
                    frame = literal.push("?", None, scanner.nested)
                yield from (_Entry(opener, frame, quotes) for opener in openers)

    def _openers(self, text: str) -> Iterator[str]:
        """Beginnings of the token that the text goes on with; '' where it begins with a token of its own."""
        yield ""
        plain, formatted = ["", "b"], ["f", "t"] if "TSTRING" in self._scanner.machine.index else ["f"]
        if "\\" in text:
            plain, formatted = [*plain, "r", "rb"], [*formatted, *(f"r{prefix}" for prefix in formatted)]
        quotes = [quote for quote in _QUOTES if quote in text]
        yield from (prefix + quote for prefix, quote in itertools.product(plain, quotes))
        if "{" in text or "}" in text:
            literals = [prefix + quote for prefix, quote in itertools.product(formatted, quotes)]
            behind = ("", "{", "{x:", "}") if "}" in text else ("",)
            yield from (literal + more for more, literal in itertools.product(behind, literals))
        if text[0] in "\"'\r\n\\":
            yield "\\"
            yield from (f"{quote}\\" for quote in quotes)
        yield from self._halves(text)
        yield "#"

    def _halves(self, text: str) -> Iterator[str]:
        """Beginnings of words, numbers, operators and prefixes of strings that end with what the text begins with."""
        word = _WORD.match(text)
        if word is not None:
            yield from (each.removesuffix(word[0]) for each in self._scanner.words.words if each.endswith(word[0]))
            yield from _NUMBERS
        begun = word[0] if word else ""
        if text[len(begun) : len(begun) + 1] in ("'", '"'):
            prefixes = [prefix for prefix in self._scanner.words.prefixes if prefix.islower()]
            yield from (each.removesuffix(begun) for each in prefixes if each.endswith(begun) and each != begun)
        for sign in self._scanner.words.operators:
            yield from (sign[:cut] for cut in range(1, len(sign)) if text.startswith(sign[cut:]))

    @cached_property
    def _roots(self) -> set[str]:
        return {rule for rules in CONTEXTS.values() for rule in rules if rule != "decorated"}

    @cached_property
    def _below(self) -> dict[str, Node]:
        return self._scanner.machine.callers(*sorted(self._roots))

    @cached_property
    def _ways(self) -> dict[int, _Way]:
        """The lightest way to every state from the beginning of its rule."""
        ways: dict[int, _Way] = {}
        for rule in self._below:
            heap = [(0, self._rules.start(rule), "")]
            while heap:
                weight, state, text = heapq.heappop(heap)
                if state in ways:
                    continue
                ways[state] = _Way(weight + _PARTNER * (rule in self._roots and rule != "line"), text)
                for symbol, after in self._rules.edges[state].items():
                    if symbol != "NEWLINE":
                        more = self._written(symbol)
                        added = len(more.rstrip()) + (symbol == "NUMBER")  # rather a name
                        heapq.heappush(heap, (weight + added, after, text + more))
        return ways

    @cached_property
    def _calls(self) -> dict[str, dict[int, _Way]]:
        """For each rule the states behind its calls, each with the lightest way to such a call."""
        calls: dict[str, dict[int, _Way]] = {}
        for state, way in sorted(self._ways.items(), key=lambda item: item[1], reverse=True):
            for symbol, after in self._rules.edges[state].items():
                if self._rules.is_rule(symbol):
                    calls.setdefault(symbol, {})[after] = way  # the lightest comes last
        return calls

    def _written(self, symbol: str) -> str:
        """The lightest text of a symbol of the grammar."""
        if symbol in _WRITTEN:
            return _WRITTEN[symbol]
        if not self._rules.is_rule(symbol):
            text = self._costs.text(self._scanner.machine.terminal(symbol))
            return f"{text} " if text[-1:].isalnum() else text
        if symbol not in self._sentences:
            rests, state, text = self._costs.rests(), self._rules.start(symbol), ""
            while not self._rules.accepting[state]:
                edges = self._rules.edges[state].items()
                _, step, state = min((self._weight(each) + rests[after], each, after) for each, after in edges)
                text += self._written(step)
            self._sentences[symbol] = text
        return self._sentences[symbol]

    def _weight(self, symbol: str) -> int:
        if self._rules.is_rule(symbol):
            return self._costs.rests()[self._rules.start(symbol)]
        return 2 if symbol in _WRITTEN else self._costs.weight(self._scanner.machine.terminal(symbol))


def _quoted(text: str, quotes: tuple[str, ...], raw: bool) -> Iterator[str]:
    """``text`` with the quotes of the f-strings that it has opened, and, if asked for, with these made raw as well."""
    if text.count(_QUOTE) != len(quotes):
        return
    for written in (text, re.sub(rf"([ft]){_QUOTE}", rf"r\1{_QUOTE}", text)) if raw else (text,):
        for quote in quotes:
            written = written.replace(_QUOTE, quote, 1)
        yield written
