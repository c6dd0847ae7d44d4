"""When to speak up unasked: at the user's own pace, and not in the middle of things."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from assistant.document import Gap

SHORTEST, LONGEST = 0.05, 0.6
"""Seconds: bounds of an automatic pause."""
USUAL = 0.15
"""Seconds between keystrokes that are assumed of a user not known yet."""
SHARE = 0.2
"""Weight of the newest interval in the average."""
BREAK = 1.0
"""Seconds after which the user was thinking, not typing."""

CLOSERS = " \t)]}>,:;\"'"
"""Characters that editors write ahead of the cursor, or that end what is left of it."""


class Pace:
    """How fast the user types."""

    def __init__(self) -> None:
        self._mean = USUAL
        self._last: float | None = None

    def edited(self, now: float) -> None:
        """Note an edit at a time in seconds."""
        if self._last is not None and now - self._last < BREAK:
            self._mean += SHARE * (now - self._last - self._mean)
        self._last = now

    def pause(self, gap: Gap, now: float) -> float:
        """Seconds to wait for the next keystroke: longer inside a word, shorter where a thought ends."""
        before = gap.left[-1:]
        ends = before.isspace() or (not before.isalnum() and before != "_")
        wait = min(max(self._mean * (1.0 if ends else 1.8), SHORTEST), LONGEST)
        passed = now - self._last if self._last is not None else wait
        return max(wait - passed, 0.0)


def quiet(gap: Gap, max_right: int) -> bool:
    """Whether an automatic suggestion would only be in the way: inside a word, or with much text to the right."""
    right = gap.right[:256].split("\n", 1)[0].split("\r", 1)[0]
    inside = right[:1].isalnum() or right[:1] == "_"
    return inside or sum(character not in CLOSERS for character in right) > max_right


class Turns:
    """Lets the newest of several waiting requests go on. Requests with the same key go together."""

    def __init__(self) -> None:
        self._key: Hashable = object()
        self._over = asyncio.Event()

    def take(self, key: Hashable) -> asyncio.Event:
        """Begin; the event is set when another key's turn has come."""
        if key != self._key:
            self._over.set()
            self._key, self._over = key, asyncio.Event()
        return self._over


async def overtaken(over: asyncio.Event, seconds: float) -> bool:
    """Wait; True as soon as another turn begins, False when the time is over."""
    if seconds <= 0:
        return over.is_set()
    try:
        await asyncio.wait_for(over.wait(), seconds)
    except TimeoutError:
        return False
    return True
