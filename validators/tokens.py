"""A text validator asked about token ids.

A token is a string of bytes that may begin or end in the middle of a character. The bytes of an unfinished character
are kept in the state, and are accepted only if some character that begins with them may stand there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from validators.contracts import Problem, Unit, Validator
from validators.halves import examples, split
from validators.vocabulary import bits_of

S = TypeVar("S", bound=Hashable)
S_contra = TypeVar("S_contra", contravariant=True)


class TokenState(NamedTuple, Generic[S]):
    """Where a token validator stands."""

    text: S
    """The text validator's state after the last whole character."""
    pending: bytes
    """0 to 3 bytes of a character that has begun."""


class TokenMasks(Protocol[S_contra]):
    """What knows all tokens that may come next."""

    def of(self, text: S_contra, pending: bytes) -> int:
        """The tokens that may come next, as a mask: bit i is id i."""
        ...


@runtime_checkable
class MakesMasks(Protocol[S_contra]):
    """A text validator that can answer for a whole vocabulary faster than id by id."""

    def masks(self, pieces: Sequence[bytes | None]) -> TokenMasks[S_contra]: ...


@runtime_checkable
class ForcesText(Protocol[S_contra]):
    """A text validator that knows what everything begins with that may follow."""

    def forced(self, state: S_contra) -> str:
        """As long as it may be; '' where there is a choice."""
        ...


class TokenValidator(Generic[S]):
    """Checks blocks of ids against a text validator.

    `pieces[id]` is the bytes of a token, or None for ids that are no text (specials), which are never accepted.
    Answers are remembered by (state, id), up to `memory` of them.
    """

    def __init__(self, validator: Validator[S], pieces: Sequence[bytes | None], *, memory: int = 200_000) -> None:
        self._validator = validator
        self._forces = validator if isinstance(validator, ForcesText) else None
        self._pieces = pieces
        self._memory = memory
        self._seen: dict[tuple[TokenState[S], int], TokenState[S] | None] = {}
        self._size = 4 * ((len(pieces) + 31) // 32)

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

    def mask(self, state: TokenState[S]) -> bytes:
        """The ids that `accept_block` accepts one of, packed: bit `id & 7` of byte `id >> 3`, whole 32-bit words.

        The layout is that of llguidance's and XGrammar's masks on a little-endian machine. The vocabulary is read when
        a mask is first asked for, and again, in parts, where a new kind of place comes up (inside a string, behind a
        digit): tens to hundreds of milliseconds each. Kept afterwards: some 100 MB for 150,000 ids.
        """
        return self._mask(state).to_bytes(self._size, "little")

    def forced(self, state: TokenState[S], most: int = 64) -> tuple[int, ...]:
        """The ids that must come next, one after the other, each the only one its mask leaves; at most `most`.

        Empty where the file may end, and where several ids may come next. That is so even if they are all beginnings
        of one text: which of them a model would take is not known. A model that is held to what may come next has no
        other choice than a forced id, so its pass can be left out.

        A validator that tells forced texts is asked for those, and of the vocabulary what agrees with one is tried: no
        masks are made. It is empty then wherever there is a choice of characters, too, and inside one.
        """
        ids: list[int] = []
        while len(ids) < most:
            only = self._only(state)
            # Asked last: it reads on in the right-hand text, and there nearly always is a choice.
            if only is None or self.complete(state):
                break
            ids.append(only)
            _, state = self.accept_block(state, ids[-1:])
        return tuple(ids)

    def _only(self, state: TokenState[S]) -> int | None:
        """The id that must come next."""
        if self._forces is None:
            mask = 0 if self.complete(state) else self._mask(state)
            return mask.bit_length() - 1 if mask and not mask & (mask - 1) else None
        must = b"" if state.pending else self._forces.forced(state.text).encode()
        if not must:
            return None
        only = None
        for token in self._by_first_byte[must[0]]:
            piece = self._pieces[token] or b""
            if (must.startswith(piece) or piece.startswith(must)) and self._step(state, token):
                if only is not None:
                    return None
                only = token
        return only

    @cached_property
    def _by_first_byte(self) -> list[list[int]]:
        """Ids by what they begin with, the shortest first: of two that agree with a text, they are found soonest."""
        found: list[list[int]] = [[] for _ in range(256)]
        for token, piece in enumerate(self._pieces):
            if piece:
                found[piece[0]].append(token)
        for ids in found:
            ids.sort(key=lambda token: len(self._pieces[token] or b""))
        return found

    def _mask(self, state: TokenState[S]) -> int:
        return self._masks.of(state.text, state.pending)

    @cached_property
    def _masks(self) -> TokenMasks[S]:
        if isinstance(self._validator, MakesMasks):
            return self._validator.masks(self._pieces)
        return EveryId(self._accepts, len(self._pieces))

    def _accepts(self, text: S, pending: bytes, token: int) -> bool:
        return self._judge(TokenState(text, pending), token) is not None

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
        halves = split(state.pending + piece)
        if halves is None:
            return None
        text, pending = halves
        verdict = self._validator.check(state.text, text)
        if verdict.accepted < len(text):
            return None
        if pending and not any(self._validator.check(verdict.state, example).accepted for example in examples(pending)):
            return None
        return TokenState(verdict.state, pending)


class EveryId(Generic[S]):
    """Asks for one id after the other: what masks are measured against."""

    def __init__(self, accepts: Callable[[S, bytes, int], bool], size: int) -> None:
        self._accepts = accepts
        self._size = size

    def of(self, text: S, pending: bytes) -> int:
        return bits_of(self._size, (token for token in range(self._size) if self._accepts(text, pending, token)))
