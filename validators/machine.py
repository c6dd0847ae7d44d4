"""A nondeterministic top-down parser whose configurations are interned values.

A configuration is a set of stacks of rule states (what is still needed, the next thing on top). The set is kept as a
trie from the top: a node maps each top state to the node of what lies below it. Stacks that differ only below share
their top, so one step costs the number of different tops, however deep the brackets are. This is the graph-structured
stack of generalised parsing (Lang 1974; Tomita 1985) turned top-down and made a value.
"""

from __future__ import annotations

from collections.abc import Iterable

from validators.rules import Rules, Version

__all__ = ["Machine", "Node"]

# Grammar symbols for identifiers: any, one that is bound, one that a pattern captures.
_IDENTIFIERS = {
    "NAME": ("NAME", "'match'", "'case'", "'type'", "'_'", "'__debug__'"),
    "BOUND": ("NAME", "'match'", "'case'", "'type'", "'_'"),
    "CAPTURE": ("NAME", "'match'", "'case'", "'type'"),
}
# Interned nodes kept before the table is dropped; states that are held stay valid, only sharing starts afresh.
_MOST_NODES = 30_000

_Way = tuple[int, int, tuple[int, ...]]
"""Out of a rule state: terminals, the state whose own ways out begin with them (-1: themselves), what to push below."""


class Node:
    """A set of parser stacks. ``items``: (rule state on top, the stacks below it); ``empty``: the empty stack is in it.

    Nodes are interned: equal sets are the same object. ``steps`` and ``accepts`` are memos.
    """

    __slots__ = ("accepts", "cost", "empty", "items", "steps")

    def __init__(self, items: tuple[tuple[int, Node], ...], empty: bool) -> None:
        self.items = items
        self.empty = empty
        self.steps: dict[int, Node | None] = {}
        self.accepts = -1
        self.cost = -1


class Machine:
    """Steps configurations over terminals, which are small integers; a set of terminals is a bit mask."""

    def __init__(self, version: Version) -> None:
        self.rules = Rules(version)
        self.index: dict[str, int] = {}
        self.spelling: list[str] = []
        self.steps_computed = 0
        self._nodes: dict[tuple[tuple[tuple[int, Node], ...], bool], Node] = {}
        self._ways: dict[int, list[_Way]] = {}
        self._pushed: dict[tuple[int, int], tuple[tuple[int, ...], ...]] = {}
        self._masks: dict[str, int] = {}
        self._first: dict[int, int] = {}
        self._nullable: dict[int, bool] = {}
        self.bottom = self._node((), True)
        for name in ("NAME", "NEWLINE"):
            self.terminal(name)

    def terminal(self, spelling: str) -> int:
        """The number of a terminal as the grammar spells it ("'if'", 'NAME')."""
        number = self.index.get(spelling)
        if number is None:
            number = self.index[spelling] = len(self.spelling)
            self.spelling.append(spelling)
        return number

    def mask(self, *spellings: str) -> int:
        bits = 0
        for spelling in spellings:
            bits |= 1 << self.terminal(spelling)
        return bits

    def entry(self, *rules: str) -> Node:
        """The configuration that needs one of ``rules`` and then nothing."""
        return self.union([self._node(((self.rules.start(rule), self.bottom),), False) for rule in rules])

    def anywhere(self, *rules: str) -> Node:
        """The configurations that some beginning of one of ``rules`` leads to, all of them, as one cyclic node.

        They are exactly the right parts of all sentences.
        """
        below = self.callers(*rules)
        items = [(state, node) for rule, node in below.items() for state in self.rules.states(rule)]
        return Node(tuple(sorted(items, key=lambda item: item[0])), False)

    def callers(self, *rules: str) -> dict[str, Node]:
        """For each rule that is used in ``rules``, and for these: what can stand below it, any place that calls it."""
        compiled: list[str] = []
        todo = list(rules)
        callers: dict[str, list[tuple[int, str]]] = {}
        while todo:
            rule = todo.pop()
            if rule in compiled:
                continue
            compiled.append(rule)
            for state in self.rules.states(rule):
                for symbol, after in self.rules.edges[state].items():
                    if self.rules.is_rule(symbol):
                        callers.setdefault(symbol, []).append((after, rule))
                        todo.append(symbol)
        below = {rule: Node((), rule in rules) for rule in compiled}
        for rule in compiled:
            below[rule].items = tuple((after, below[owner]) for after, owner in sorted(callers.get(rule, [])))
        return below

    def stack(self, states: Iterable[int], below: Node) -> Node:
        """The configuration with these rule states, the top one first, and ``below`` under them."""
        for state in reversed(tuple(states)):
            below = self._node(((state, below),), False)
        return below

    def step(self, node: Node, terminal: int) -> Node | None:
        """The configuration after ``terminal``; None where it cannot come next."""
        try:
            return node.steps[terminal]
        except KeyError:
            pass
        self.steps_computed += 1
        results: list[Node] = []
        todo = [node]
        for current in todo:
            for state, below in current.items:
                if self.first(state) >> terminal & 1:
                    for pushed in self._pushes(state, terminal):
                        after = below
                        for symbol in pushed:
                            after = self._node(((symbol, after),), False)
                        results.append(after)
                if self._nullable[state] and below not in todo:
                    todo.append(below)
        result = self.union(results) if results else None
        node.steps[terminal] = result
        return result

    def accepts(self, node: Node) -> int:
        """The terminals that can come next, as a mask."""
        if node.accepts < 0:
            bits = 0
            todo = [node]
            for current in todo:
                for state, below in current.items:
                    bits |= self.first(state)
                    if self._nullable[state] and below not in todo:
                        todo.append(below)
            node.accepts = bits
        return node.accepts

    def union(self, nodes: list[Node]) -> Node:
        first = nodes[0]
        if len(nodes) == 1 or all(node is first for node in nodes):
            return first
        tops: dict[int, list[Node]] = {}
        empty = False
        for node in nodes:
            empty = empty or node.empty
            for state, below in node.items:
                under = tops.setdefault(state, [])
                if below not in under:
                    under.append(below)
        items = tuple((state, self.union(tops[state])) for state in sorted(tops))
        return self._node(items, empty)

    def _node(self, items: tuple[tuple[int, Node], ...], empty: bool) -> Node:
        key = (items, empty)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) > _MOST_NODES:
                self._nodes.clear()
                self._nodes[(), True] = self.bottom
            node = self._nodes[key] = Node(items, empty)
        return node

    def nullable(self, state: int) -> bool:
        """Whether the rest of a rule from ``state`` on can be empty."""
        self.first(state)
        return self._nullable[state]

    def first(self, state: int) -> int:
        """The terminals that the rest of a rule from ``state`` on can begin with, as a mask."""
        bits = self._first.get(state)
        return self._look(state) if bits is None else bits

    def _look(self, state: int) -> int:
        rules, bits, nullable = self.rules, 0, self.rules.accepting[state]
        ways: list[_Way] = []
        for symbol, after in rules.edges[state].items():
            rest = (after,) if rules.edges[after] else ()
            if not rules.is_rule(symbol):
                ways.append((self._mask_of(symbol), -1, rest))
                continue
            start = rules.start(symbol)
            ways.append((self.first(start), start, rest))
            if self._nullable[start]:
                ways.append((self.first(after), after, ()))
                nullable = nullable or self._nullable[after]
        for mask, _, _ in ways:
            bits |= mask
        self._ways[state], self._nullable[state], self._first[state] = ways, nullable, bits
        return bits

    def _pushes(self, state: int, terminal: int) -> tuple[tuple[int, ...], ...]:
        """What to push instead of ``state`` where ``terminal`` comes next, each lowest first; worked out when asked."""
        known = self._pushed.get((state, terminal))
        if known is None:
            found: set[tuple[int, ...]] = set()
            for mask, start, rest in self._ways[state]:
                if mask >> terminal & 1:
                    found.update([rest] if start < 0 else [rest + each for each in self._pushes(start, terminal)])
            known = self._pushed[state, terminal] = tuple(sorted(found))
        return known

    def _mask_of(self, symbol: str) -> int:
        mask = self._masks.get(symbol)
        if mask is None:
            mask = self._masks[symbol] = self.mask(*_IDENTIFIERS.get(symbol, (symbol,)))
        return mask

    def spellings(self, symbol: str) -> tuple[int, ...]:
        """The terminals that a symbol of the grammar stands for."""
        return tuple(self.terminal(name) for name in _IDENTIFIERS.get(symbol, (symbol,)))
