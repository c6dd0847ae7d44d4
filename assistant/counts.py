"""What a request cost: time and steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from assistant.completion import Drafted
from model.engine import Interrupt, Share, Step


class Clock:
    """Times one request, and interrupts it when its milliseconds are over or the caller says so."""

    def __init__(self, max_ms: int, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._begin = time.perf_counter()
        self._deadline = self._begin + max_ms / 1000 if max_ms else float("inf")
        self._first = self._last = 0.0

    def __call__(self) -> Literal["cancelled", "time"] | None:
        return self._interrupt() or ("time" if time.perf_counter() > self._deadline else None)

    def stepped(self) -> None:
        self._last = time.perf_counter()
        self._first = self._first or self._last

    @property
    def ms_first(self) -> float:
        """Milliseconds to the end of the first pass, prompt included."""
        return round(1000 * (self._first - self._begin), 1)

    @property
    def ms_total(self) -> float:
        """Milliseconds until now."""
        return round(1000 * (time.perf_counter() - self._begin), 1)

    def rate(self, tokens: int) -> float:
        """Tokens per second over the passes after the first, which gave `tokens`."""
        spent = self._last - self._first
        return round(tokens / spent, 1) if spent else 0.0


NOBODY = (Share("none", 0),)
"""A pass without a draft."""


@dataclass
class Tally:
    """Adds up the steps of one request."""

    first: int = 0
    """Tokens of the first pass."""
    tries: int = 0
    """Answers written to the end."""
    tokens: int = 0
    passes: int = 0
    drafted: int = 0
    accepted: int = 0
    fallbacks: int = 0
    avoided: int = 0
    forced: int = 0
    widest: int = 0
    drafters: dict[str, Drafted] = field(default_factory=dict)

    def add(self, step: Step[Any]) -> None:
        self.first = self.first if self.passes else len(step.ids)
        self.tokens += len(step.ids)
        self.passes += 1
        self.drafted += step.drafted
        self.accepted += step.agreed
        self.fallbacks += step.agreed < step.drafted
        self.avoided += step.refused
        self.forced += step.forced
        self.widest = max(self.widest, step.width)
        for source, proposed, viable, kept in step.shares or NOBODY:
            was = self.drafters.get(source, Drafted())
            self.drafters[source] = Drafted(was.passes, was.proposed + proposed, was.viable + viable, was.kept + kept)
        for source in {share.source for share in step.shares or NOBODY}:
            was = self.drafters[source]
            self.drafters[source] = msgspec.structs.replace(was, passes=was.passes + 1)

    def counts(self) -> dict[str, Any]:
        """The counting fields of a completion."""
        return {name: value for name, value in vars(self).items() if name != "first"}
