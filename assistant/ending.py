"""Where a completion ends, asked after each pass, and what of it is kept: the end is cut so that the file parses."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from assistant import gap as gaps
from assistant.document import Gap
from assistant.judge import refusal
from assistant.junction import mended
from validators.contracts import Unit, Validator
from validators.tokens import TokenState, TokenValidator

S = TypeVar("S", bound=Hashable)

Room = Callable[[int, str], bool]
"""Is there room in the budget for so many tokens and this text?"""

BACK = 32
"""Tokens that are given up one by one so that a closing fits the budget; then several at a time, in as many steps. Of
1,800 gaps of held-out files 42 needed more than 8, and none more than 16; one that the small model filled, 130."""

NATURAL = re.compile(r"""[\])}'":\s]*(pass)?\s*""")
"""A closing that only ends what was begun: nothing in it is made up.

On gaps of held-out files whose answers were broken off after 4 to 48 tokens, these were always nearer to what stood
there than the text cut back to where it parses (likeness 0.45 against 0.17 on whole lines begun in the first line).
Closings with made-up names join such texts too, but nobody would have written them: cutting back goes before them.
"""


def joinable(validator: Validator[S], start: S) -> bool:
    """May a text be expected that joins what stands right of the gap? Of a broken file: only if little is missing."""
    closing = validator.closing(start) if validator.problems(start) else ""
    return closing is not None and NATURAL.fullmatch(closing) is not None


class EndsAnywhere(TokenValidator[S]):
    """Lets a model end wherever it likes: where none of its texts joins the right-hand text, no place is the right one.

    What is kept of the text, `Ending` says.
    """

    def complete(self, state: TokenState[S]) -> bool:
        return True


class End(NamedTuple):
    """A place where a completion ends of itself."""

    reason: str
    """`closed` or `unit`."""
    at: int
    """Characters of the text before the right-hand text is repeated, or up to what showed that the unit is over."""
    shown: int
    """Characters after which that is known."""


class Kept(NamedTuple):
    """What is kept of a text."""

    text: str
    closing: str
    """What the validator adds so that the file parses."""


class Ending:
    """Follows a text while it is written into a gap. `start` is the validator's state there."""

    def __init__(self, validator: Validator[Any], gap: Gap, start: Any, unit: Unit | None) -> None:
        self.text = ""
        self._validator = validator
        self._gap = gap
        self._start = start
        self._problems = len(validator.problems(start))
        self._before = start
        self._unit = unit
        self._needle = gaps.needle(gap.suffix)
        self._places = [0]

    def grown(self, pieces: Sequence[str], state: Any) -> End | None:
        """The characters of each new token and the validator's state behind them: does the text end in them?"""
        begin = len(self.text)
        for piece in pieces:
            self.text += piece
            self._places.append(len(self.text))
        repeated = self._repeated(max(begin - len(self._needle), 0))
        over = self._unit_over(begin, state)
        ends = [
            *([End("closed", repeated, repeated + len(self._needle))] if repeated >= 0 else []),
            *([End("unit", over, over)] if over >= 0 else []),
        ]
        self._before = state
        # What would have been seen first, had the text come character by character.
        return min(ends, key=lambda end: end.shown, default=None)

    def settled(self, end: End | None, room: Room, taught: bool = True, ended: bool = False) -> Kept:
        """What is kept of the text: nothing where nothing parses.

        taught: the model was taught, by the adapter, where to end. ended: it ended the text of itself.
        """
        for fits in self._demands():
            tried = set[str]()
            for kept in self._candidates(end, room, taught, ended):
                candidate = kept.text + kept.closing
                # Blanks are worth something where the file does not parse without them.
                if candidate not in tried and (candidate.strip() or (candidate and not fits(""))):
                    if fits(candidate):
                        return self._mended(kept, fits)
                    tried.add(candidate)
        return Kept("", "")

    def _mended(self, kept: Kept, fits: Callable[[str], bool]) -> Kept:
        """The same with the line ends that belong before the suffix; they are not counted as tokens."""
        text = kept.text + kept.closing
        better = mended(self._gap.prefix, text, self._gap.suffix)
        if self._unit or better == text or self._in_string(text) or not fits(better):
            return kept
        place = len(kept.text) if kept.closing else len(better)
        return Kept(better[:place], better[place:])

    def _in_string(self, text: str) -> bool:
        """Is a string open behind `text`, of which line ends are a part? Nothing else may go on with a "$"."""
        probe = text.rstrip("\n") + "\n$"
        return self._validator.check(self._start, probe).accepted == len(probe)

    def _demands(self) -> tuple[Callable[[str], bool], ...]:
        """What is asked of a text: of a broken file as much as can be met.

        Nothing joins where it is the very statement around the gap that is broken.
        """
        if not self._problems:
            return (self._joins,)
        return (
            lambda text: self._joins(text) and self._no_worse(text),
            lambda text: self._joins(text) or self._no_worse(text),
        )

    def _joins(self, candidate: str) -> bool:
        """Does the file parse with `candidate` in the gap? Of a broken file: do the parts that are not broken?"""
        verdict = self._validator.check(self._start, candidate)
        if verdict.accepted < len(candidate) or not self._validator.complete(verdict.state):
            return False
        if self._problems:
            return self._beside(candidate) <= self._problems
        return refusal(self._gap.filled(candidate)) is None

    def _no_worse(self, candidate: str) -> bool:
        """Has a broken file no more broken places with `candidate` in the gap, read in two parts and in one?"""
        return (
            self._validator.check(self._start, candidate).accepted == len(candidate)
            and self._beside(candidate) <= self._problems
            and self._broken(self._gap.prefix + candidate + self._gap.suffix)
            <= self._broken(self._gap.prefix + self._gap.suffix)
        )

    def _beside(self, candidate: str) -> int:
        """Broken places left and right of the gap, once `candidate` is in it."""
        return self._broken(self._gap.prefix + candidate, self._gap.suffix)

    def _broken(self, prefix: str, suffix: str = "") -> int:
        return len(self._validator.problems(self._validator.start(prefix, suffix)))

    def _repeated(self, begin: int) -> int:
        """Where the text begins to repeat the suffix, from `begin` on; -1 if it does not.

        A place where the file would not parse is none: `)` may repeat the suffix, or close a bracket of the text.
        """
        at = self.text.find(self._needle, begin) if self._needle else -1
        while at >= 0 and not self._demands()[-1](self.text[:at]):
            at = self.text.find(self._needle, at + 1)
        return at

    def _unit_over(self, begin: int, state: Any) -> int:
        """Behind which character, from `begin` on, the unit is over; -1 if it goes on."""
        if self._unit is None or not self._validator.unit_end(state, self._unit):
            return -1
        before = self._before
        for at in range(begin, len(self.text)):
            before = self._validator.check(before, self.text[at]).state
            if self._validator.unit_end(before, self._unit):
                return at + 1
        return len(self.text)

    def _over(self, text: str) -> bool:
        """Is the unit over behind `text`?"""
        verdict = self._validator.check(self._start, text)
        return (
            verdict.accepted == len(text)
            and self._unit is not None
            and self._validator.unit_end(verdict.state, self._unit)
        )

    def _candidates(self, end: End | None, room: Room, taught: bool, ended: bool) -> Iterator[Kept]:
        """What may be kept, the most wanted first."""
        prefix, suffix = self._gap.prefix, self._gap.suffix
        text = self.text
        if end and self._unit and end.reason == "unit":
            yield from (Kept(each, "") for each in gaps.unit_texts(text[: end.at], self._unit, suffix, self._over))
            text = text[: end.at - 1]
        elif end:
            text = gaps.unrepeated(text[: end.at], suffix)
        if not (taught or self._unit):
            over = ended or end is not None
            yield from (Kept(text[:cut], "") for cut in gaps.stops(prefix, text, suffix, over))
        yield Kept(text, "")
        yield Kept(text.rstrip(), "")
        closings = list(self._closings(text, room))
        yield from (kept for kept in closings if NATURAL.fullmatch(kept.closing))
        yield from (Kept(text[:cut], "") for cut in gaps.cuts(text, suffix))
        if not self._problems:  # what is made up to join a file that is broken helps nobody
            yield from closings

    def _closings(self, text: str, room: Room) -> Iterator[Kept]:
        """`text`, or some tokens less of it, with what the validator closes it by, as far as the budget goes."""
        tokens = bisect_left(self._places, len(text))
        near = range(tokens, max(tokens - BACK, 0), -1)
        # Behind what opens one bracket after the other, nothing near leaves room to close them all.
        far = range(tokens - BACK, 0, -(tokens // BACK + 1))
        for count in (*near, *far):
            begun = text[: self._places[count]]
            verdict = self._validator.check(self._start, begun)
            closing = self._validator.closing(verdict.state) if verdict.accepted == len(begun) else None
            if closing and room(count, closing):
                yield Kept(begun, closing)
                return
