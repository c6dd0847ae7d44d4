"""Compiles the grammar's text to automata: one deterministic automaton a rule, its states numbered over all rules.

A state of a rule's automaton says what the rest of the rule may be; a stack of such states is all that a top-down
parser has to remember (recursive transition networks: Woods 1970, "Transition network grammars for natural language
analysis"). Rules are compiled when they are first used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from validators.grammar import GRAMMAR

__all__ = ["Rules", "Symbol"]

Version = tuple[int, int]
Symbol = str  # a terminal ('if', NAME, $outcome) as it is written, or a rule's name

_TOKEN = re.compile(r"\s*(\{[\d.]*\.\.[\d.]*\}|'[^']+'|\$[\w+]+|\w+|[()\[\]|*+])")
_RULE = re.compile(r"^(\w+)(%?):", re.MULTILINE)


@dataclass
class _Net:
    """A nondeterministic automaton: ``edges[state]`` lists (label, next); the empty label consumes nothing."""

    edges: list[list[tuple[str, int]]] = field(default_factory=list)
    _free: dict[int, frozenset[int]] = field(default_factory=dict)

    def state(self) -> int:
        self.edges.append([])
        return len(self.edges) - 1

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """What can be reached for nothing. The net must be complete."""
        return frozenset().union(*map(self._reached, states))

    def _reached(self, state: int) -> frozenset[int]:
        found = self._free.get(state)
        if found is None:
            seen, todo = {state}, [state]
            while todo:
                for label, target in self.edges[todo.pop()]:
                    if not label and target not in seen:
                        seen.add(target)
                        todo.append(target)
            found = self._free[state] = frozenset(seen)
        return found


class Rules:
    """The automata of one Python version.

    ``edges[q]`` maps a symbol to the next state of ``q``'s rule; ``accepting[q]`` says that the rule may end there.
    ``start(rule)`` is the rule's first state.
    """

    def __init__(self, version: Version) -> None:
        self.version = version
        self.edges: list[dict[Symbol, int]] = []
        self.accepting: list[bool] = []
        self.rule_of: list[str] = []
        self._starts: dict[str, int] = {}
        self._spans: dict[str, range] = {}
        self._texts: dict[str, tuple[str, bool]] = {}
        marks = list(_RULE.finditer(GRAMMAR))
        for mark, after in zip(marks, [*marks[1:], None], strict=True):
            text = GRAMMAR[mark.end() : after.start() if after else len(GRAMMAR)]
            self._texts[mark[1]] = (text, mark[2] == "%")

    def is_rule(self, symbol: Symbol) -> bool:
        return symbol in self._texts

    def start(self, rule: str) -> int:
        """The first state of ``rule``. Raises KeyError for a name that the grammar does not define."""
        if rule not in self._starts:
            net = _Net()
            first, last = net.state(), net.state()
            text, commas = self._texts[rule]
            _Reader(self, net, text).choice(first, last)
            self._starts[rule] = self._determine(rule, net, first, last, commas)
        return self._starts[rule]

    def states(self, rule: str) -> range:
        """All states of ``rule``."""
        self.start(rule)
        return self._spans[rule]

    def text(self, rule: str) -> str:
        return self._texts[rule][0]

    def _determine(self, rule: str, net: _Net, first: int, last: int, commas: bool) -> int:
        """Subset construction, then merging of equal states; appends the automaton and returns its first state."""
        start = net.closure([first])
        table: dict[frozenset[int], dict[str, frozenset[int]]] = {}
        todo = [start]
        while todo:
            states = todo.pop()
            if states in table:
                continue
            moves: dict[str, set[int]] = {}
            for state in sorted(states):
                for label, target in net.edges[state]:
                    if label:
                        moves.setdefault(label, set()).add(target)
            table[states] = {label: net.closure(targets) for label, targets in moves.items()}
            todo += table[states].values()
        accepting = {states: last in states for states in table}
        if commas:
            for states, moves_of in table.items():
                if "','" in moves_of and last in moves_of["','"]:
                    accepting[states] = True
        block = {states: int(accepting[states]) for states in table}
        while True:
            keys: dict[tuple[object, ...], int] = {}
            refined = {}
            for states, moves_of in table.items():
                key = (block[states], *sorted((label, block[t]) for label, t in moves_of.items()))
                refined[states] = keys.setdefault(key, len(keys))
            if len(keys) == len(set(block.values())):
                break
            block = refined
        base = len(self.edges)
        representatives = {number: states for states, number in block.items()}
        for number in range(len(representatives)):
            states = representatives[number]
            self.edges.append({label: base + block[t] for label, t in sorted(table[states].items())})
            self.accepting.append(accepting[states])
            self.rule_of.append(rule)
        self._spans[rule] = range(base, len(self.edges))
        return base + block[start]


class _Reader:
    """Reads one rule's text into a net between two given states (Thompson's construction)."""

    def __init__(self, rules: Rules, net: _Net, text: str) -> None:
        self.rules = rules
        self.net = net
        self.tokens = self._scan(text)
        self.position = 0

    @staticmethod
    def _scan(text: str) -> list[str]:
        def tokens() -> Iterator[str]:
            position, end = 0, len(text.rstrip())
            while position < end:
                match = _TOKEN.match(text, position)
                if match is None:
                    raise ValueError(f"grammar: cannot read {text[position : position + 20]!r}")
                position = match.end()
                yield match[1]

        return list(tokens())

    def _peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self.position += 1
        return token

    def choice(self, first: int, last: int) -> None:
        while True:
            keep = True
            if self._peek().startswith("{"):
                low, high = self._next()[1:-1].split("..")
                keep = (not low or _version(low) <= self.rules.version) and (
                    not high or self.rules.version <= _version(high)
                )
            start = first if keep else self.net.state()
            self._sequence(start, last if keep else self.net.state())
            if self._peek() != "|":
                return
            self._next()

    def _sequence(self, first: int, last: int) -> None:
        state = first
        while self._peek() not in ("", "|", ")", "]"):
            after = self.net.state()
            self._item(state, after)
            state = after
        self.net.edges[state].append(("", last))

    def _item(self, first: int, last: int) -> None:
        inner, outer = self.net.state(), self.net.state()
        token = self._next()
        if token in ("(", "["):
            self.choice(inner, outer)
            self._next()
            if token == "[":
                self.net.edges[inner].append(("", outer))
        elif token.startswith("_"):
            _Reader(self.rules, self.net, self.rules.text(token)).choice(inner, outer)
        else:
            self.net.edges[inner].append((token, outer))
        if self._peek() in ("*", "+"):
            if self._next() == "*":
                self.net.edges[inner].append(("", outer))
            self.net.edges[outer].append(("", inner))
        self.net.edges[first].append(("", inner))
        self.net.edges[outer].append(("", last))


def _version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)
