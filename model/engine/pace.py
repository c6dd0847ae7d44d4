"""How many threads a pass takes on a processor that others use as well.

The threads of a product wait for one another. Where others keep the cores busy, one that waits spins in the way of the
one that it waits for, and a pass on two cores takes up to eight times as long as on one. What a pass got of the cores,
its threads' time over the time that went by, tells it. The README's example, beside two programs that never rest, two
cores of an AMD EPYC: 16 to 18 s with two threads throughout, 8 s so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

FAIR = 0.75
"""Share of its threads' time that a pass gets where nobody else wants the cores, and more."""
IN_A_ROW = 2
"""Passes below that after which one thread goes on alone."""
PATIENCE, LONGEST = 32, 256
"""Passes of one thread before all are tried again: at first, and, doubled each time that it was too early, at most."""


class Pace:
    """Goes on with one thread where a pass with all of them does not get the cores, and tries them again later."""

    def __init__(
        self,
        most: int,
        use: Callable[[int], None] = torch.set_num_threads,
        wall: Callable[[], float] = time.perf_counter,
        worked: Callable[[], float] = time.process_time,
    ) -> None:
        """most: threads on an idle machine. use: sets their number. wall, worked: clocks, in seconds."""
        self.threads = self._most = most
        self._use = use
        self._wall = wall
        self._worked = worked
        self._poor = 0
        self._left = 0
        self._patience = PATIENCE

    @contextmanager
    def measured(self) -> Iterator[None]:
        """A pass; one that is broken off tells nothing."""
        if self._most > 1 and self.threads == 1 and self._left == 0:
            self._change(self._most)
        begin, worked = self._wall(), self._worked()
        yield
        self._judge((self._worked() - worked) / max(self._wall() - begin, 1e-9) / self.threads)

    def _judge(self, share: float) -> None:
        if self.threads == 1:
            self._left = max(self._left - 1, 0)
        elif share >= FAIR:
            self._poor, self._patience = 0, PATIENCE
        else:
            self._poor += 1
            if self._poor == IN_A_ROW:
                self._poor, self._left = 0, self._patience
                self._patience = min(2 * self._patience, LONGEST)
                self._change(1)

    def _change(self, threads: int) -> None:
        self.threads = threads
        self._use(threads)


class Steady:
    """As many threads as there are, whatever happens: where their number would change a sum's last bit."""

    @contextmanager
    def measured(self) -> Iterator[None]:
        """A pass."""
        yield


STEADY = Steady()
