"""Text that the grammar leaves no choice about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from validators.contracts import Verdict

__all__ = ["forced"]

State = TypeVar("State")

_LIKELY = " \n\\x(\"'0:.,=)]}#"
# Every ASCII character, likely ones first, and one of each kind beyond: where one of those may stand others may, too.
_ALPHABET = _LIKELY + "".join(chr(code) for code in range(1, 128) if chr(code) not in _LIKELY) + "é\u0301→"
_MOST = 128  # characters


def forced(
    check: Callable[[State, str], Verdict[State]], complete: Callable[[State], bool], state: State
) -> tuple[str, State]:
    """The longest text with which everything begins that may follow, and the state behind it.

    Character by character: as long as the program may not end here and exactly one character can come next. A blank
    can come next nearly everywhere, so what is forced is mostly the rest of a keyword that no name may stand for.
    """
    text = ""
    while len(text) < _MOST:
        found = None
        for character in _ALPHABET:
            verdict = check(state, character)
            if verdict.accepted:
                if found is not None:
                    return text, state
                found = character, verdict.state
        if found is None or complete(state):
            return text, state
        text, state = text + found[0], found[1]
    return text, state
