"""Drafters that need no model of their own."""

from __future__ import annotations

from collections.abc import Sequence

from model.engine.contracts import Draft, Drafter

NOTHING = Draft((), "none")


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


class LookupDraft:
    """Proposes what followed the last time that the same tokens were written.

    Prompt look-up decoding (Saxena 2023; Yang et al. 2023, "Inference with Reference"): the longest run of `shortest`
    to `longest` tokens at the end of the text that occurs earlier is found, its latest occurrence wins. Positions are
    indexed as the text grows, so that a proposal costs a few look-ups, not a search of the prompt.
    """

    def __init__(self, *, shortest: int = 2, longest: int = 4) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError(f"need 1 <= shortest <= longest, not {shortest} and {longest}")
        self._sizes = range(longest, shortest - 1, -1)
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        self._follow(ids)
        if width > 0:
            for size in self._sizes:
                start = self._after.get(tuple(ids[-size:]))
                if start is not None:
                    return Draft(tuple(ids[start : start + width]), "lookup")
        return NOTHING

    def _follow(self, ids: Sequence[int]) -> None:
        """Index every run of `ids` that something follows."""
        if self._ids != ids[: len(self._ids)]:
            self._ids, self._after = [], {}
        # A run that ends at the very end is not indexed yet: nothing follows it.
        for end in range(max(len(self._ids), 1), len(ids)):
            for size in self._sizes:
                if size <= end:
                    self._after[tuple(ids[end - size : end])] = end
        self._ids = list(ids)
