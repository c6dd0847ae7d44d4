"""A text validator asked about token ids.

A token is a string of bytes that may begin or end in the middle of a character. The bytes of an unfinished character
are kept in the state, and are accepted only if some character that begins with them may stand there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence
from functools import cache
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from validators.contracts import Problem, Unit, Validator

S = TypeVar("S", bound=Hashable)


class TokenState(NamedTuple, Generic[S]):
    """Where a token validator stands."""

    text: S
    """The text validator's state after the last whole character."""
    pending: bytes
    """0 to 3 bytes of a character that has begun."""


class TokenValidator(Generic[S]):
    """Checks blocks of ids against a text validator.

    `pieces[id]` is the bytes of a token, or None for ids that are no text (specials), which are never accepted.
    Answers are remembered by (state, id), up to `memory` of them.
    """

    def __init__(self, validator: Validator[S], pieces: Sequence[bytes | None], *, memory: int = 200_000) -> None:
        self._validator = validator
        self._pieces = pieces
        self._memory = memory
        self._seen: dict[tuple[TokenState[S], int], TokenState[S] | None] = {}

    def start(self, prefix: str, suffix: str = "") -> TokenState[S]:
        return TokenState(self._validator.start(prefix, suffix), b"")

    def problems(self, state: TokenState[S]) -> tuple[Problem, ...]:
        return self._validator.problems(state.text)

    def accept_block(self, state: TokenState[S], ids: Sequence[int]) -> tuple[int, TokenState[S]]:
        """How many of `ids` may follow as they stand, and the state after exactly those. No side effect."""
        for count, token in enumerate(ids):
            after = self._step(state, token)
            if after is None:
                return count, state
            state = after
        return len(ids), state

    def complete(self, state: TokenState[S]) -> bool:
        return not state.pending and self._validator.complete(state.text)

    def closing(self, state: TokenState[S]) -> str | None:
        """As the text validator's; None inside a character, where no text can follow."""
        return None if state.pending else self._validator.closing(state.text)

    def unit_end(self, state: TokenState[S], unit: Unit) -> bool:
        return not state.pending and self._validator.unit_end(state.text, unit)

    def _step(self, state: TokenState[S], token: int) -> TokenState[S] | None:
        key = (state, token)
        try:
            return self._seen[key]
        except KeyError:
            pass
        after = self._judge(state, token)
        if len(self._seen) >= self._memory:
            self._seen.clear()
        self._seen[key] = after
        return after

    def _judge(self, state: TokenState[S], token: int) -> TokenState[S] | None:
        piece = self._pieces[token]
        if not piece:
            return None
        split = _split(state.pending + piece)
        if split is None:
            return None
        text, pending = split
        verdict = self._validator.check(state.text, text)
        if verdict.accepted < len(text):
            return None
        if pending and not any(self._validator.check(verdict.state, example).accepted for example in examples(pending)):
            return None
        return TokenState(verdict.state, pending)


def _split(data: bytes) -> tuple[str, bytes] | None:
    """Whole characters, and the bytes of one that has begun. None if the bytes are not UTF-8."""
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        if error.end < len(data) or error.reason != "unexpected end of data":
            return None
        return data[: error.start].decode(), data[error.start :]


@cache
def examples(pending: bytes) -> tuple[str, ...]:
    """Characters that begin with the bytes `pending`, one of each kind that Python's grammar tells apart.

    The kinds are: may begin a name, may only continue a name, other. Characters that NFKC changes come last: whether
    they may stand in a name depends on what they change to.
    """
    found: dict[str, str] = {}
    characters = [chr(code) for code in _codes(pending)]
    changed = [character for character in characters if unicodedata.normalize("NFKC", character) != character]
    for character in chain(sorted(set(characters).difference(changed)), changed):
        kind = "start" if character.isidentifier() else "continue" if f"a{character}".isidentifier() else "other"
        found.setdefault(kind, character)
        if len(found) == 3:
            break
    return tuple(found.values())


def _codes(pending: bytes) -> range:
    """The code points whose UTF-8 form begins with `pending` (RFC 3629, section 3)."""
    lead = pending[0]
    length, bits = (2, lead & 0x1F) if lead < 0xE0 else (3, lead & 0x0F) if lead < 0xF0 else (4, lead & 0x07)
    for byte in pending[1:]:
        bits = bits << 6 | byte & 0x3F
    free = 6 * (length - len(pending))
    lowest = {2: 0x80, 3: 0x800, 4: 0x10000}[length]
    first, last = bits << free, (bits + 1 << free) - 1
    return range(max(first, lowest), min(last, 0x10FFFF) + 1)
