"""What the rules of ``compile`` remember of the blocks that are open."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakValueDictionary

__all__ = ["NO_NAMES", "Dead", "Level", "Names"]


class Names:
    """Names that a scope has used so far: those of one line, and the ones before. Equal ones are one object."""

    __slots__ = ("__weakref__", "_after", "_before", "_names")

    def __init__(self, before: Names | None, names: frozenset[str]) -> None:
        self._before = before
        self._names = names
        self._after: WeakValueDictionary[frozenset[str], Names] = WeakValueDictionary()

    def adding(self, names: frozenset[str]) -> Names:
        found = self._after.get(names)
        if found is None:
            found = self._after[names] = Names(self, names)
        return found

    def __contains__(self, name: str) -> bool:
        each: Names | None = self
        while each is not None:
            if name in each._names:
                return True
            each = each._before
        return False


NO_NAMES = Names(None, frozenset())


class Level(NamedTuple):
    """An open block."""

    column: int
    kind: str
    """What opened it: "module", "def", "async" (a function), "class", "loop", "except*", "match", or another."""
    names: Names = NO_NAMES
    parameters: frozenset[str] = frozenset()
    yields: bool = False
    returns: bool = False
    """A value is returned."""
    last: str = ""
    """Of the lines in it: "bare" behind `except:`, "shut" behind a case that takes everything."""


class Dead(Exception):
    """No program goes on so: the character at ``at`` is the first that nothing can follow."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason
