"""The slow validator, by the parser of the running interpreter: what the others are compared with."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from validators.contracts import Problem, Unit, Verdict
from validators.reference_closing import closing, readable
from validators.reference_judge import feed, judge, parses
from validators.reference_outline import Outline, fold
from validators.reference_units import unit_end


@dataclass(frozen=True)
class ReferenceState:
    """A text with a cursor in it."""

    left: str
    """Everything left of the cursor."""
    right: str
    """What counts of the text right of the cursor."""
    origin: tuple[Outline, str, int]
    """The outline and the open line at `start`, and how many characters were left of the cursor."""
    outline: Outline
    """Of the finished logical lines of `left`."""
    line: str
    """The logical line that the cursor is in, up to the cursor."""
    problems: tuple[Problem, ...]

    @cached_property
    def kept(self) -> str:
        """The left text without its broken parts."""
        broken = any(problem.side == "left" for problem in self.problems)
        return self.outline.text + self.line if broken else self.left.removeprefix("\ufeff")


class ReferenceValidator:
    """Judges by the parser of the running interpreter. A cost of O(open logical line) for each question.

    The right-hand text has no say in what is viable; it counts in `complete` and `closing`, which are exact. Parts
    that had to be stepped over (`problems`) are left out of both.
    """

    version = (sys.version_info[0], sys.version_info[1])

    def start(self, prefix: str, suffix: str = "") -> ReferenceState:
        """The state between `prefix` and `suffix`. A byte order mark at the beginning is passed over.

        Where the file begins right of the cursor, what is written goes behind the mark.
        """
        marked = not prefix and suffix.startswith("\ufeff")
        if marked:
            suffix = suffix[1:]
        outline, line, problems = self._read(prefix)
        state = ReferenceState(prefix, "", (outline, line, len(prefix)), outline, line, problems)
        right = readable(outline, line, suffix)
        if right < len(suffix):
            reason = "the text from here on is ignored: it cannot be parsed"
            problem = _problem("right", suffix, right, reason)
            problems = (*problems, problem.behind_mark() if marked else problem)
        return replace(state, right=suffix[:right], problems=problems)

    def problems(self, state: ReferenceState) -> tuple[Problem, ...]:
        return state.problems

    def check(self, state: ReferenceState, text: str) -> Verdict[ReferenceState]:
        fed = feed(state.outline, state.line, text)
        after = replace(state, left=state.left + text[: fed.accepted], outline=fed.outline, line=fed.line)
        return Verdict(fed.accepted, after, fed.complaint)

    def complete(self, state: ReferenceState) -> bool:
        return parses(state.kept + state.right)

    def closing(self, state: ReferenceState) -> str | None:
        return closing(state.kept, state.outline, state.line, state.right)

    def unit_end(self, state: ReferenceState, unit: Unit) -> bool:
        outline, line, length = state.origin
        return unit_end(outline, line, state.left[length:], unit)

    def _read(self, prefix: str) -> tuple[Outline, str, tuple[Problem, ...]]:
        """The outline, the open line and the problems of a left text."""
        outline = Outline()
        problems: list[Problem] = []
        at = 1 if prefix.startswith("\ufeff") else 0
        state = ReferenceState("", "", (outline, "", 0), outline, "", ())
        while True:
            verdict = self.check(state, prefix[at:])
            at += verdict.accepted
            state = verdict.state
            if at == len(prefix):
                return state.outline, state.line, tuple(problems)
            problems.append(_problem("left", prefix, at, verdict.reason or ""))
            begin = at - len(state.line)
            resume = max(prefix.rfind("\n", begin, at), prefix.rfind("\r", begin, at)) + 1
            if resume <= begin:
                newline = re.compile(r"\r\n?|\n").search(prefix, at)
                resume = newline.end() if newline else len(prefix)
            state = replace(state, outline=_recovered(state.outline, prefix[resume:]), line="")
            at = resume


def _recovered(outline: Outline, rest: str) -> Outline:
    """An outline under which the next line of `rest` can stand, whatever its indentation."""
    found = re.compile(r"(?:[ \t\f]*(?:#[^\r\n]*)?(?:\r\n?|\n))*([ \t\f]*)").match(rest)
    assert found is not None
    indentation = found[1]
    plain = Outline(flufl=outline.flufl)
    for count in range(len(outline.levels), 0, -1):
        levels = list(outline.levels)
        while len(levels) > count:
            levels = fold(levels)
        shorter = outline._replace(levels=tuple(levels))
        if judge(shorter.text + indentation + "pass\n") is None:
            return shorter
    return plain.after("if x:\n") if indentation else plain


def _problem(side: Literal["left", "right"], text: str, offset: int, reason: str) -> Problem:
    before = re.split(r"\r\n?|\n", text[:offset])
    return Problem(side, offset, len(before), len(before[-1]) + 1, reason)
