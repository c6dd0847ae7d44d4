"""Fetching a model, as an editor shows it: one progress bar in percent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the store brings what talks to the network, which must not keep `initialize` waiting
    from assistant.store.report import Meter

Report = Callable[[str, int | None], None]
"""Takes one line for people and a percentage, None where there is none; may be called from any thread."""


class EditorReporter:
    """A reporter of the model store."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def note(self, text: str) -> None:
        self._report(text, None)

    @contextlib.contextmanager
    def meter(self, what: str, total: int, start: int = 0) -> Iterator[Meter]:
        from assistant.store.report import size_text

        yield _Percent(self._report, f"{what} ({size_text(total)})", max(total, 1))


class _Percent:
    """Reports each percent once."""

    def __init__(self, report: Report, what: str, total: int) -> None:
        self._report = report
        self._what = what
        self._total = total
        self._last = -1

    def at(self, position: int) -> None:
        percent = min(100 * position // self._total, 100)
        if percent != self._last:
            self._last = percent
            self._report(self._what, percent)
