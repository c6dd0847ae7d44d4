"""Which of many sequences of terminals may follow a parser configuration, found out for all of them at once.

The sequences stand in a trie. What happens to a rule state on the way through the trie does not depend on the stack
below it, except where its rule ends: the trie's node at which that happens is handed to the state below. So the work
is done once for every pair of a rule state and a trie's node, and a configuration that has never been seen costs a few
look-ups. (The split of a vocabulary into what the top of the stack decides and what it does not is that of XGrammar,
Dong et al. 2024, section 3.1; here every stack is walked down as far as a token reaches, so nothing is left to check.)
"""

from __future__ import annotations

from validators.lexing import Way
from validators.machine import Machine, Node

__all__ = ["Follower", "Trie"]

_MOST_NODES = 20_000  # configurations whose answers are kept


class Trie:
    """A node of the trie: ``done`` are the classes (bits) of sequences that end here, ``pending`` those that end in
    the beginning of one of the terminals of a mask."""

    __slots__ = ("children", "done", "pending", "reached", "symbols")

    def __init__(self) -> None:
        self.children: dict[int, Trie] = {}
        self.done = 0
        self.pending: dict[int, int] = {}
        self.symbols = 0  # terminals that matter here
        self.reached: dict[int, tuple[int, tuple[Trie, ...]]] = {}

    def insert(self, way: Way, bit: int) -> None:
        """Before the first question only: answers are remembered."""
        node = self
        for terminal in way.path:
            node.symbols |= 1 << terminal
            node = node.children.setdefault(terminal, Trie())
        if way.pending < 0:
            node.done |= bit
        else:
            node.pending[way.pending] = node.pending.get(way.pending, 0) | bit
            node.symbols |= way.pending


class Follower:
    """Answers for one grammar."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known: dict[tuple[Node, Trie], int] = {}
        self.work = 0
        """Pairs of a state and a trie's node that were worked out."""

    def classes(self, node: Node, trie: Trie) -> int:
        """The classes of those sequences that may come next."""
        key = (node, trie)
        found = self._known.get(key)
        if found is None:
            found = trie.done if node.empty else 0
            for state, below in node.items:
                bits, ended = trie.reached.get(state) or self._reach(state, trie)
                found |= bits
                for after in ended:
                    found |= self.classes(below, after)
            if len(self._known) >= _MOST_NODES:
                self._known.clear()
            self._known[key] = found
        return found

    def _reach(self, state: int, trie: Trie) -> tuple[int, tuple[Trie, ...]]:
        """Classes that end inside the rule of ``state``, and the places in the trie at which that rule can end."""
        known = trie.reached.get(state)
        if known is not None:
            return known
        self.work += 1
        machine = self._machine
        rules = machine.rules
        first = machine.first(state)
        bits = trie.done
        ended: dict[Trie, None] = {trie: None} if machine.nullable(state) else {}
        if first & trie.symbols:
            for mask, classes in trie.pending.items():
                if mask & first:
                    bits |= classes
            for symbol, after in rules.edges[state].items():
                if not rules.is_rule(symbol):
                    places = [trie.children[each] for each in machine.spellings(symbol) if each in trie.children]
                else:
                    start = rules.start(symbol)
                    if not (machine.first(start) & trie.symbols or machine.nullable(start)):
                        continue
                    inside, behind = self._reach(start, trie)
                    bits |= inside
                    places = list(behind)
                for place in places:
                    more, behind = self._reach(after, place)
                    bits |= more
                    ended.update(dict.fromkeys(behind))
        trie.reached[state] = bits, tuple(ended)
        return trie.reached[state]
