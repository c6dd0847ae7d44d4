"""How far a long piece of work has come: a bar on a terminal, a line now and then where stderr is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

import click
from tqdm import tqdm

EVERY = 5.0
"""Seconds between two lines."""
PATIENCE = 1.0
"""Seconds before a bar appears: quick work shows none."""


class Progress:
    """Counts `total` units. Nothing is shown of work that is over before its first line or bar is due."""

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._unit = unit
        self._every = every
        self._clock = clock
        self._begin = self._said = clock()
        self._done = 0
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, unit=f" {unit}", delay=PATIENCE, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, note: str = "") -> None:
        """One more is done; `note` says what else is worth knowing, such as a speed."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()
            return
        now = self._clock()
        if now - self._said >= self._every:
            self._said = now
            left = (now - self._begin) / self._done * (self._total - self._done)
            parts = (f"{self._done} of {self._total} {self._unit}", note, f"{duration(left)} left")
            click.echo("viable: " + ", ".join(part for part in parts if part), err=True)

    def say(self, line: str, *, err: bool = False) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.clear()
        click.echo(line, err=err)
        if self._bar is not None:
            self._bar.refresh()


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
