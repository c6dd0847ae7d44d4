"""The validator of Python source text: ``PythonValidator``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from validators.beginnings import Beginnings
from validators.blocks import Block, root
from validators.closing import Closer
from validators.compiling import BEGINNING, SILENT, CompileRules, Context, NoRules
from validators.contracts import Problem, Unit, Verdict
from validators.forced import forced
from validators.gap import Gap
from validators.halves import examples, split
from validators.lines import Line
from validators.machine import Machine
from validators.masks import Masks
from validators.recovery import MARK, Places, read
from validators.right import Reader, Right
from validators.scanner import Scanner
from validators.units import Units
from validators.vocabulary import Vocabulary, bits_of

__all__ = ["PythonValidator", "State"]

_MOST_STATES = 20_000  # interned, before the table is dropped
_MOST_RIGHTS = 16  # right-hand texts whose memos are kept


LEVELS = ("syntax", "compile")
VERSIONS = tuple((3, minor) for minor in range(8, 15))


class State:
    """A place between two texts, and what units have been closed on the way to it. A value: equal ones are one object.

    Two states with the same ``place`` accept the same texts; it is what to key a memo of answers by.
    """

    __slots__ = ("block", "context", "line", "problems", "right", "units")

    def __init__(
        self,
        line: Line,
        block: Block,
        right: Right,
        problems: tuple[Problem, ...],
        units: Units,
        context: Context,
    ) -> None:
        self.line = line
        self.block = block
        self.right = right
        self.problems = problems
        self.units = units
        self.context = context

    @property
    def place(self) -> tuple[Line, Block, Right, Context]:
        """Where in a logical line, in which blocks, before what: hashable, equal where the same may follow."""
        return self.line, self.block, self.right, self.context


class PythonValidator:
    """Says character by character how much of a text can still become a program that ``ast.parse`` accepts.

    ``version``: of the Python that is to run the program, (3, 8) to (3, 14), whatever interpreter runs the validator;
    None stands for the running one. ``level``: "syntax" is what ``ast.parse`` refuses, "compile" also what ``compile``
    does, as far as ``CompileRules`` can tell; some microseconds more for every token of the open line.

    Cost: one pass over the text that is new. A token that has been seen in the same place of a statement is one
    look-up. Raises ValueError for a version or a level that it does not know.
    """

    def __init__(self, version: tuple[int, int] | None = None, level: str = "syntax") -> None:
        self.version = version or (sys.version_info[0], sys.version_info[1])
        if self.version not in VERSIONS:
            raise ValueError(f"the validator knows Python 3.8 to 3.14, not {self.version!r}")
        if level not in LEVELS:
            raise ValueError(f"the level is 'syntax' or 'compile', not {level!r}")
        self.rules: NoRules | CompileRules = CompileRules(self.version) if level == "compile" else NoRules()
        self.machine = Machine(self.version)
        self.scanner = Scanner(self.machine)
        self.root = root()
        self._closer = Closer(self.scanner)
        self._beginnings = Beginnings(self.scanner, self._closer.costs)
        self._states: dict[object, State] = {}
        self._rights: dict[str, Right] = {}
        self._gaps: dict[Right, Gap] = {}

    def _state(
        self,
        line: Line,
        block: Block,
        right: Right,
        problems: tuple[Problem, ...],
        units: Units,
        context: Context,
    ) -> State:
        key = (line, block, right, problems, units, context)
        state = self._states.get(key)
        if state is None:
            if len(self._states) > _MOST_STATES:
                self._states.clear()
            state = self._states[key] = State(*key)
        return state

    def start(self, prefix: str, suffix: str = "") -> State:
        """The state between ``prefix`` and ``suffix``. Broken parts are left out; ``problems`` says where they are.

        A byte order mark at the beginning of the file is passed over. The file may begin right of the cursor: then
        what is written goes behind the mark, as it does in editors, which do not show it.
        """
        marked = not prefix and suffix.startswith(MARK)
        if marked:
            suffix = suffix[1:]
        line, block, problems = read(self.scanner, self.root, prefix)
        if suffix:
            usable, problem = Reader(self.scanner, suffix).read(line)
            suffix = suffix[:usable]
            if problem:
                problems = (*problems, problem.behind_mark() if marked else problem)
        context = SILENT
        if not problems or problems[0].side == "right":
            ruling = self.rules.read(BEGINNING, prefix)
            context = ruling.context
            if ruling.accepted < len(prefix):
                context = SILENT
                problems = (Places(prefix).problem("left", ruling.accepted, ruling.reason or ""), *problems)
        return self._state(line, block, self._right(suffix), problems, Units.opened(line, block), context)

    def _right(self, text: str) -> Right:
        right = self._rights.get(text)
        if right is None:
            if len(self._rights) >= _MOST_RIGHTS:
                self._rights.clear()
                self._gaps.clear()
            right = self._rights[text] = Right(self.scanner, self._closer, text)
        return right

    def problems(self, state: State) -> tuple[Problem, ...]:
        """Where the texts given to ``start`` are broken."""
        return state.problems

    def check(self, state: State, text: str) -> Verdict[State]:
        """How much of ``text`` may follow; it is refused at the first character after which nothing can."""
        accepted, line, reason, marks, block = self.scanner.read(state.line, state.block, text)
        kept, context, refusal = self.rules.read(state.context, text[:accepted])
        if kept < accepted:
            accepted, line, _, marks, block = self.scanner.read(state.line, state.block, text[:kept])
            reason = refusal
        units = state.units.after(text[:accepted], marks)
        after = self._state(line, block or state.block, state.right, state.problems, units, context)
        return Verdict(accepted, after, reason)

    def complete(self, state: State) -> bool:
        """Does left text + accepted text + right text parse as it stands, apart from the broken parts?"""
        return state.right.complete(state.line, state.block) and self.rules.complete(state.context, state.right.text)

    def closing(self, state: State) -> str | None:
        """A short text after which ``complete`` holds; None where none is found."""
        if state.right.text:
            gap = self._gaps.get(state.right)
            if gap is None:
                gap = self._gaps[state.right] = Gap(self.scanner, self._closer, self._beginnings, state.right)
            text = gap.closing(state.line, state.block)
        else:
            text = self._closer.ending(state.line, state.block)
        allowed = text is not None and self.rules.complete(state.context, text + state.right.text)
        return text if allowed else None

    def forced(self, state: State) -> str:
        """The longest text with which everything begins that may follow here; '' where there is a choice.

        Only what cannot be otherwise: a blank or a line's end that may stand somewhere is a choice, and so is the end
        of the program where it is complete. On real code it is the rest of a keyword, now and then.
        """
        return forced(self.check, self.complete, state)[0]

    def masks(self, pieces: Sequence[bytes | None]) -> StateMasks:
        """What may come next of a tokenizer's vocabulary; ``pieces[id]`` is a token's bytes, None for specials."""
        return StateMasks(Masks(self.scanner, Vocabulary(pieces)), self.rules, pieces)

    def unit_end(self, state: State, unit: Unit) -> bool:
        """Is the unit that was open at ``start`` closed here?"""
        return unit in state.units.closed


class StateMasks:
    """``Masks`` asked about states."""

    def __init__(self, masks: Masks, rules: NoRules | CompileRules, pieces: Sequence[bytes | None]) -> None:
        self._masks = masks
        self._rules = rules
        self._pieces = pieces

    def of(self, text: State, pending: bytes) -> int:
        """The tokens that may come next behind the state ``text`` and the bytes of a character that has begun.

        The rules of level "compile" are asked token by token: exact, and a thousand times slower.
        """
        bits = self._masks.of(text.line, text.block, pending)
        if isinstance(self._rules, NoRules):
            return bits
        return bits_of(len(self._pieces), (token for token in _set(bits) if self._allowed(text, pending, token)))

    def _allowed(self, state: State, pending: bytes, token: int) -> bool:
        found = split(pending + (self._pieces[token] or b""))
        assert found is not None
        text, half = found
        ways = [text + each for each in examples(half)] if half else [text]
        return any(self._rules.read(state.context, way).accepted == len(way) for way in ways)


def _set(bits: int) -> Iterator[int]:
    for place, byte in enumerate(bits.to_bytes(bits.bit_length() // 8 + 1, "little")):
        yield from (8 * place + bit for bit in range(8) if byte >> bit & 1)
