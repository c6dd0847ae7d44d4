"""What is cheapest to write next: the length of the shortest ending of every parser configuration."""

from __future__ import annotations

from validators.machine import Machine, Node

__all__ = ["Costs"]

_FAR = 1 << 20
# How each terminal is written in an ending; the others are written as the grammar spells them.
_TEXTS = {
    "NAME": "x",
    "NEWLINE": "\n",
    "NUMBER": "0",
    "IMAGINARY": "0j",
    "STRING": "''",
    "BYTES": "b''",
    "FSTRING": "f''",
    "TSTRING": "t''",
    "AUGASSIGN": "+=",
    "CONVERSION": "r",
}


class Costs:
    """Weights of terminals and, from them, of configurations. ``pass`` weighs little: it says that a body is empty."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rest: list[int] = []  # rule state -> weight of the lightest rest of its rule

    def text(self, terminal: int) -> str:
        spelling = self._machine.spelling[terminal]
        if spelling.startswith("'"):
            return spelling[1:-1] if spelling not in ("'f{'", "'f}'", "'f:'", "'f!'") else spelling[2]
        return _TEXTS.get(spelling, "")

    def weight(self, terminal: int) -> int:
        spelling = self._machine.spelling[terminal]
        if spelling[0] == "$":  # a block that must still be written weighs more than a body on the same line
            return 60 if spelling.endswith("+") else 40 if spelling == "$decorator" else 0
        return 1 if spelling == "'pass'" else 1 + len(self.text(terminal))

    def of(self, node: Node) -> int:
        """The weight of the lightest text that empties the configuration."""
        if node.cost >= 0:
            return node.cost
        rest = self.rests()
        todo = [node]
        while todo:
            current = todo[-1]
            waiting = [below for _, below in current.items if below.cost < 0]
            if waiting:
                todo += waiting
                continue
            todo.pop()
            best = 0 if current.empty else _FAR
            for state, below in current.items:
                best = min(best, rest[state] + below.cost)
            current.cost = best
        return node.cost

    def best(self, node: Node) -> tuple[int, Node]:
        """The terminal that the lightest ending begins with, and the configuration after it."""
        machine = self._machine
        bits = machine.accepts(node)
        found: tuple[int, int, Node] | None = None
        while bits:
            terminal = (bits & -bits).bit_length() - 1
            bits &= bits - 1
            after = machine.step(node, terminal)
            if after is not None:
                weight = self.weight(terminal) + self.of(after)
                if found is None or weight < found[0]:
                    found = (weight, terminal, after)
        if found is None:
            raise ValueError("the configuration is empty: nothing can be written")
        return found[1], found[2]

    def rests(self) -> list[int]:
        """For every rule state the weight of the lightest rest of its rule; all rules are compiled for it."""
        rules = self._machine.rules
        if len(self._rest) == len(rules.edges):
            return self._rest
        size = -1
        while size != len(rules.edges):  # compiles every rule that can be reached
            size = len(rules.edges)
            for edges in list(rules.edges):
                for symbol in edges:
                    if rules.is_rule(symbol):
                        rules.start(symbol)
        rest = [0 if accepting else _FAR for accepting in rules.accepting]
        steps: list[tuple[int, int, int, int]] = []  # state, weight, state after it, start of the rule between; or -1
        for state, edges in enumerate(rules.edges):
            for symbol, after in edges.items():
                if rules.is_rule(symbol):
                    steps.append((state, 0, after, rules.start(symbol)))
                else:
                    known = symbol in ("BOUND", "CAPTURE")
                    weight = 2 if known else self.weight(self._machine.terminal(symbol))
                    steps.append((state, weight, after, -1))
        steps.reverse()  # what is called stands behind what calls it
        changed = True
        while changed:
            changed = False
            for state, weight, after, start in steps:
                total = rest[after] + (weight if start < 0 else rest[start])
                if total < rest[state]:
                    rest[state] = total
                    changed = True
        self._rest = rest
        return rest
