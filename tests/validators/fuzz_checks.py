"""What must hold of a validator for any text, checked against the interpreters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from tests.validators.oracle import Oracle
from validators import PythonValidator

Version = tuple[int, int]

_LATER = "f'{x:{y}{{}'"
"""Parses in 3.12.7, not in 3.12.1: how a format specification goes on behind a field in it was changed in between."""
_CHANGED = re.compile(r"[fF][rR]?['\"].*:.*\{.*\}.*(?:\{\{|\{\Z|[\r\n])", re.DOTALL)


def _without_mark(text: str, before: str) -> str:
    """`text` without the byte order marks that would begin the file: what stands there is passed over."""
    return text if before else text.lstrip("\ufeff")


class Failure(NamedTuple):
    """A text for which something does not hold."""

    check: str
    text: str
    suffix: str
    expected: str
    got: str


@cache
def _validator(version: Version) -> PythonValidator:
    return PythonValidator(version)


class Subject:
    """The validator of one version, held against the interpreter of that version."""

    def __init__(self, version: Version, oracle: Oracle) -> None:
        self.version = version
        self.oracle = oracle
        self.validator = _validator(version)
        self.counts: dict[str, int] = {}
        self._early = version == (3, 12) and oracle.parse(_LATER) is not None

    def text(self, text: str, rng: random.Random) -> Iterator[Failure]:
        """Everything that can be asked about a left text alone."""
        yield from self._deviations(self._text(text, rng))

    def gap(self, text: str, rng: random.Random, middle: Callable[[str], str]) -> Iterator[Failure]:
        """Everything that can be asked about a gap in a text that parses."""
        yield from self._deviations(self._gap(text, rng, middle))

    def _deviations(self, failures: Iterator[Failure]) -> Iterator[Failure]:
        """Without those that are due to the release of 3.12 at hand: the validator is true to the last ones."""
        for failure in failures:
            if self._early and _CHANGED.search(failure.text + failure.suffix):
                self._count("deviations in what later releases changed")
            else:
                yield failure

    def _text(self, text: str, rng: random.Random) -> Iterator[Failure]:
        text = text.lstrip("\ufeff")  # at the beginning of a file it is passed over
        yield from self.agrees(text)
        verdict = self.validator.check(self.validator.start(""), text)
        accepted = verdict.accepted
        yield from self._chunks(text, accepted, verdict.state, rng)
        yield from self._closes(text[: rng.randint(0, accepted)])
        if accepted < len(text):
            yield from self._closes(text[:accepted])
            yield from self._broken(text, accepted)

    def agrees(self, text: str) -> Iterator[Failure]:
        """Is it complete exactly if it parses, and viable as far as the reference says?"""
        verdict = self.validator.check(self.validator.start(""), text)
        accepted = verdict.accepted
        problem = self.oracle.parse(text)
        parses = problem is None
        complete = accepted == len(text) and self.validator.complete(verdict.state)
        self._count("texts")
        self._count("parsing texts", parses)
        if problem is not None and problem.gave_up:
            self._count("texts too deep for that parser")
            return
        if complete != parses:
            yield Failure("complete", text, "", f"parses: {parses}", f"accepted {accepted} of {len(text)}, {complete}")
        yield from self._viable(text, accepted, verdict.reason)

    def _gap(self, text: str, rng: random.Random, middle: Callable[[str], str]) -> Iterator[Failure]:
        text = text.lstrip("\ufeff")  # what is written before the mark goes behind it
        begin = rng.randint(0, len(text))
        end = min(len(text), begin + rng.choice((0, 3, 20, 80, 300)))
        left, true, right = text[:begin], text[begin:end], text[end:]
        validator = self.validator
        state = validator.start(left, right)
        self._count("gaps")
        yield from self._broken_right(left, true, _without_mark(middle(right), left))
        if problems := validator.problems(state):
            yield Failure("problems in a good text", left, right, "none", repr(problems))
            return
        at = state
        for number, character in enumerate(true):
            verdict = validator.check(at, character)
            if verdict.accepted != 1:
                yield Failure(
                    "true middle", left + true[:number], true[number:] + right, "viable", repr(verdict.reason)
                )
                return
            at = verdict.state
        if not validator.complete(at):
            yield Failure("true middle complete", left + true, right, "complete", "not complete")
        other = _without_mark(middle(true), left)
        verdict = validator.check(state, other)
        parses = self.oracle.parse(left + other + right) is None
        complete = verdict.accepted == len(other) and validator.complete(verdict.state)
        self._count("middles that parse", parses)
        if complete != parses:
            got = f"accepted {verdict.accepted} of {len(other)}, complete {complete}: {verdict.reason}"
            yield Failure("other middle", left + other, right, f"parses: {parses}", got)
        if not 0 <= verdict.accepted <= len(other):
            yield Failure("accepted is a count", left, right, f"0 to {len(other)} of {other!r}", str(verdict.accepted))
            return
        cut = rng.randint(0, verdict.accepted)
        inner = validator.check(state, other[:cut]).state
        closing = validator.closing(inner)
        self._count("closings before a right-hand text")
        self._count("closings before a right-hand text not found", closing is None)
        problem = None if closing is None else self.oracle.parse(left + other[:cut] + closing + right)
        if problem is not None and not problem.gave_up:
            yield Failure("closing", left + other[:cut], right, "parses", repr(closing))
        if closing is None and (known := self.oracle.joining(left + other[:cut], right)) is not None:
            yield Failure("closing", left + other[:cut], right, repr(known), "None")

    def _viable(self, text: str, accepted: int, reason: str | None) -> Iterator[Failure]:
        told = self.oracle.viable(text)
        far = told.accepted
        if far < accepted:
            state = self.validator.start(text[: far + 1])
            ending = self.validator.closing(state)
            proven = ending is not None and self.oracle.parse(text[: far + 1] + ending) is None
            name = "reference refused but viable" if proven else "dead but accepted"
            expected = f"{ending!r} mends it" if proven else f"dead at {far}: {told.complaint}"
            yield Failure(name, text[: accepted + 1], "", expected, f"viable up to {accepted}")
        elif far > accepted:
            ending = self.oracle.ending(text[: accepted + 1])
            if ending is None:
                self._count("refusals that the interpreter is not sure of")
            else:
                expected, got = f"viable up to {far}, with {ending!r}", f"refused at {accepted}: {reason}"
                yield Failure("refused but viable", text[: far + 1], "", expected, got)

    def _chunks(self, text: str, accepted: int, whole: Any, rng: random.Random) -> Iterator[Failure]:
        """Chunked is whole, and the state after a check is that of a fresh start."""
        if not text:
            return
        validator = self.validator
        state, at = validator.start(""), 0
        while at < len(text):
            chunk = text[at : at + rng.choice((1, 1, 2, 5, 30))]
            verdict = validator.check(state, chunk)
            at += verdict.accepted
            state = verdict.state
            if verdict.accepted < len(chunk):
                break
        if at != accepted or not 0 <= verdict.accepted <= len(chunk):
            got = f"accepted {verdict.accepted} of the last portion {chunk!r}, up to {at}"
            yield Failure("chunked is whole", text[: max(at, accepted) + 1], "", f"accepted {accepted}", got)
            return
        fresh = validator.start(text[:accepted])
        probe = text[accepted:] or rng.choice(("x", "\n", " ", ")", '"', "\n  y", ": pass\n", "else:"))
        answers = [self._observe(each, probe) for each in (whole, state, fresh)]
        for name, answer in zip(("chunked", "fresh"), answers[1:], strict=True):
            if answer != answers[0]:
                yield Failure(f"{name} state", text[:accepted], "", repr(answers[0]), repr(answer))

    def _observe(self, state: Any, probe: str) -> tuple[object, ...]:
        validator = self.validator
        return validator.check(state, probe).accepted, validator.complete(state), validator.closing(state)

    def _closes(self, text: str) -> Iterator[Failure]:
        closing = self.validator.closing(self.validator.start(text))
        self._count("closings")
        if closing is None:
            yield Failure("closing", text, "", "some text", "None")
        elif (problem := self.oracle.parse(text + closing)) is not None and not problem.gave_up:
            yield Failure("closing", text, "", "parses", repr(closing))

    def _broken(self, text: str, accepted: int) -> Iterator[Failure]:
        """A left text that is refused is stepped over, and the place is named."""
        state = self.validator.start(text)
        first = next((problem for problem in self.validator.problems(state) if problem.side == "left"), None)
        lines = re.split(r"\r\n?|\n", text[:accepted])
        where = (accepted, len(lines), len(lines[-1]) + 1)
        self._count("broken left texts")
        if first is None or (first.offset, first.line, first.column) != where:
            yield Failure("first problem", text, "", repr(where), repr(first))

    def _broken_right(self, left: str, true: str, right: str) -> Iterator[Failure]:
        """A spoilt right-hand text counts up to where it is ignored, and no further."""
        state = self.validator.start(left, right)
        problems = self.validator.problems(state)
        kept = min((problem.offset for problem in problems if problem.side == "right"), default=len(right))
        verdict = self.validator.check(state, true)
        complete = verdict.accepted == len(true) and self.validator.complete(verdict.state)
        parses = self.oracle.parse(left + true + right[:kept]) is None
        self._count("spoilt right-hand texts")
        self._count("spoilt right-hand texts that are cut", kept < len(right))
        if complete != parses:
            got = f"complete {complete}, problems {[problem[:4] for problem in problems]}"
            yield Failure("other right-hand text", left + true, right, f"up to {kept} parses: {parses}", got)

    def _count(self, what: str, condition: bool = True) -> None:
        self.counts[what] = self.counts.get(what, 0) + condition
