"""The validator of Python source text: ``PythonValidator``."""

from __future__ import annotations

import sys

from validators.blocks import Block, root
from validators.closing import Closer
from validators.contracts import Problem, Unit, Verdict
from validators.gap import close_gap
from validators.lines import Line
from validators.machine import Machine
from validators.recovery import read
from validators.right import Reader, Right
from validators.scanner import Scanner
from validators.units import Units

__all__ = ["PythonValidator", "State"]

_MOST_STATES = 20_000  # interned, before the table is dropped
_MOST_RIGHTS = 16  # right-hand texts whose memos are kept


VERSIONS = tuple((3, minor) for minor in range(8, 15))


class State:
    """A place between two texts, and what units have been closed on the way to it. A value: equal ones are one object.

    Two states with the same ``place`` accept the same texts; it is what to key a memo of answers by.
    """

    __slots__ = ("block", "line", "problems", "right", "units")

    def __init__(self, line: Line, block: Block, right: Right, problems: tuple[Problem, ...], units: Units) -> None:
        self.line = line
        self.block = block
        self.right = right
        self.problems = problems
        self.units = units

    @property
    def place(self) -> tuple[Line, Block, Right]:
        """Where in a logical line, in which blocks, before what: hashable, equal where the same may follow."""
        return self.line, self.block, self.right


class PythonValidator:
    """Says character by character how much of a text can still become a program that ``ast.parse`` accepts.

    ``version``: of the Python that is to run the program, (3, 8) to (3, 14), whatever interpreter runs the validator;
    None stands for the running one. ``level``: "syntax" is what ``ast.parse`` refuses.

    Cost: one pass over the text that is new. A token that has been seen in the same place of a statement is one
    look-up. Raises ValueError for a version or a level that it does not know.
    """

    def __init__(self, version: tuple[int, int] | None = None, level: str = "syntax") -> None:
        self.version = version or (sys.version_info[0], sys.version_info[1])
        if self.version not in VERSIONS:
            raise ValueError(f"the validator knows Python 3.8 to 3.14, not {self.version!r}")
        if level != "syntax":
            raise ValueError(f"the level is 'syntax', not {level!r}")
        self.machine = Machine(self.version)
        self.scanner = Scanner(self.machine)
        self.root = root()
        self._closer = Closer(self.scanner)
        self._states: dict[object, State] = {}
        self._rights: dict[str, Right] = {}

    def _state(self, line: Line, block: Block, right: Right, problems: tuple[Problem, ...], units: Units) -> State:
        key = (line, block, right, problems, units)
        state = self._states.get(key)
        if state is None:
            if len(self._states) > _MOST_STATES:
                self._states.clear()
            state = self._states[key] = State(line, block, right, problems, units)
        return state

    def start(self, prefix: str, suffix: str = "") -> State:
        """The state between ``prefix`` and ``suffix``. Broken parts are left out; ``problems`` says where they are."""
        line, block, problems = read(self.scanner, self.root, prefix)
        if suffix:
            usable, problem = Reader(self.scanner, suffix).read(line)
            suffix, problems = suffix[:usable], (*problems, problem) if problem else problems
        return self._state(line, block, self._right(suffix), problems, Units.opened(line, block))

    def _right(self, text: str) -> Right:
        right = self._rights.get(text)
        if right is None:
            if len(self._rights) >= _MOST_RIGHTS:
                self._rights.clear()
            right = self._rights[text] = Right(self.scanner, self._closer, text)
        return right

    def problems(self, state: State) -> tuple[Problem, ...]:
        """Where the texts given to ``start`` are broken."""
        return state.problems

    def check(self, state: State, text: str) -> Verdict[State]:
        """How much of ``text`` may follow; it is refused at the first character after which nothing can."""
        accepted, line, reason, marks, block = self.scanner.read(state.line, state.block, text)
        units = state.units.after(text[:accepted], marks)
        return Verdict(accepted, self._state(line, block or state.block, state.right, state.problems, units), reason)

    def complete(self, state: State) -> bool:
        """Does left text + accepted text + right text parse as it stands, apart from the broken parts?"""
        return state.right.complete(state.line, state.block)

    def closing(self, state: State) -> str | None:
        """A short text after which ``complete`` holds; None where none is found."""
        if not state.right.text:
            return self._closer.ending(state.line, state.block)
        return close_gap(self.scanner, self._closer, state.right, state.line, state.block)

    def unit_end(self, state: State, unit: Unit) -> bool:
        """Is the unit that was open at ``start`` closed here?"""
        return unit in state.units.closed
