"""Drafters that need no model of their own."""

from __future__ import annotations

from collections.abc import Sequence

from model.engine.contracts import Draft, Drafter

NOTHING = Draft((), "none")

MOST = 64
"""Places that are compared for one proposal, the latest ones."""


class NoDraft:
    """Proposes nothing: decoding goes token by token."""

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        return NOTHING


class FirstOf:
    """Asks several drafters in order; the first that has something to say proposes."""

    def __init__(self, *drafters: Drafter) -> None:
        self._drafters = drafters

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        return next((draft for drafter in self._drafters if (draft := drafter.propose(ids, width)).ids), NOTHING)


class Onward:
    """One drafter begins; where room is left, another goes on behind what was proposed."""

    def __init__(self, begins: Drafter, goes_on: Drafter) -> None:
        self._begins = begins
        self._goes_on = goes_on

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        first = self._begins.propose(ids, width)
        more = self._goes_on.propose([*ids, *first.ids], width - len(first.ids))
        if not first.ids:
            return more
        return Draft((*first.ids, *more.ids), first.source, (*first.behind, *more.parts))


class LookupDraft:
    """Proposes what followed where the same tokens were written before.

    Prompt look-up decoding (Saxena 2023; Yang et al. 2023, "Inference with Reference"): of the places where the last
    `shortest` tokens or more stand, the one with the longest run in common wins, up to `longest` tokens, and among
    equals the latest. Places are indexed as the text grows and taken out again where it shrinks, so that a proposal
    costs a few look-ups, not a search of the prompt.
    """

    def __init__(self, *, shortest: int = 2, longest: int = 4) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError(f"need 1 <= shortest <= longest, not {shortest} and {longest}")
        self._shortest = shortest
        self._longest = longest
        self._ids: list[int] = []
        self._places: dict[tuple[int, ...], list[int]] = {}

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        self._follow(ids)
        if width < 1:
            return NOTHING
        found, length = 0, 0
        for place in self._places.get(tuple(ids[-self._shortest :]), [])[: -MOST - 1 : -1]:
            same = self._common(place)
            if same > length:
                found, length = place, same
            if length == self._longest:
                break
        if not length:
            return NOTHING
        # Where what followed is still being written it repeats itself: the copy goes round (as in LZ77).
        period = len(ids) - found
        return Draft(tuple(ids[found + i % period] for i in range(width)), "lookup")

    def _common(self, place: int) -> int:
        """How many tokens before `place`, up to `longest`, are those at the end."""
        length = self._shortest
        end = len(self._ids)
        while length < min(self._longest, place) and self._ids[place - length - 1] == self._ids[end - length - 1]:
            length += 1
        return length

    def _follow(self, ids: Sequence[int]) -> None:
        """Index every run of `ids` that something follows, and none that is there no more."""
        same = common_prefix(self._ids, ids)
        size = self._shortest
        for end in range(len(self._ids) - 1, max(same, size) - 1, -1):
            self._places[tuple(self._ids[end - size : end])].pop()
        # A run that ends at the very end is not indexed yet: nothing follows it.
        self._ids[same:] = ids[same:]
        for end in range(max(same, size), len(ids)):
            self._places.setdefault(tuple(ids[end - size : end]), []).append(end)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens `a` and `b` begin with in common. By halves: pieces are compared a hundred times as fast."""
    high = min(len(a), len(b))
    a, b = list(a[:high]), list(b[:high])
    if a == b:
        return high
    low = 0  # so many are the same, and not all of the first `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low
