"""How the store says what it is doing: notes and meters.

The store only knows the protocols; a terminal, a log and an editor's progress bar are different reporters.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TextIO


class Meter(Protocol):
    """Shows how far a piece of work has come."""

    def at(self, position: int) -> None:
        """`position` bytes are done, counted from the start of the file; it may go back."""
        ...


class Reporter(Protocol):
    """Tells a person about a download. What it raises stops the download, which can be resumed later."""

    def note(self, text: str) -> None:
        """One line, for people."""
        ...

    def meter(self, what: str, total: int, start: int = 0) -> AbstractContextManager[Meter]:
        """Follow work on `total` bytes of which `start` were there before."""
        ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        pass

    def at(self, position: int) -> None:
        pass

    @contextlib.contextmanager
    def meter(self, what: str, total: int, start: int = 0) -> Iterator[Meter]:
        yield self


class Console:
    """Notes on stderr; a bar where that is a terminal, else a line every `every` seconds."""

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self._stream = stream
        self._every = every

    @property
    def stream(self) -> TextIO:
        return self._stream or sys.stderr  # looked up late: tests and front ends replace it

    def note(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def meter(self, what: str, total: int, start: int = 0) -> Iterator[Meter]:
        if not self.stream.isatty():
            yield _Lines(self.note, what, total, start, self._every)
            return
        from tqdm import tqdm

        shape = {"ncols": _columns(self.stream), "nrows": 24}  # tqdm's own look draws nothing on a 0 x 0 terminal
        with tqdm(desc=what, total=total, initial=start, unit="B", unit_scale=True, file=self.stream, **shape) as bar:
            yield _Bar(bar.update, start)


def _columns(stream: TextIO) -> int:
    """Width for a bar; 79 where the terminal does not know, as inside some other programs."""
    with contextlib.suppress(OSError):
        return (os.get_terminal_size(stream.fileno()).columns or 80) - 1
    return 79


class _Bar:
    def __init__(self, advance: Callable[[int], object], start: int) -> None:
        self._advance = advance
        self._position = start

    def at(self, position: int) -> None:
        self._advance(position - self._position)
        self._position = position


class _Lines:
    def __init__(self, note: Callable[[str], None], what: str, total: int, start: int, every: float) -> None:
        self._note = note
        self._what = what
        self._total = total
        self._every = every
        self._last = (time.monotonic(), start)

    def at(self, position: int) -> None:
        now = time.monotonic()
        then, before = self._last
        if now - then < self._every:
            return
        self._last = (now, position)
        percent = 100 * position // max(self._total, 1)
        speed = size_text(max(0, round((position - before) / (now - then))))
        self._note(f"{self._what}: {size_text(position)} of {size_text(self._total)} ({percent} %), {speed}/s")


def size_text(count: int) -> str:
    """Bytes for people, in powers of 1000: `512 B`, `491.4 MB`."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
