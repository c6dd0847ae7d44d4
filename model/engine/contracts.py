"""What the decoding loop asks of its parts, and what it yields.

Legend: R rows of one pass, V vocabulary. Tokens are ids, 0 <= id < V.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from model.engine.order import Order

S = TypeVar("S", bound=Hashable)

Stop = Literal["end", "length", "cancelled", "time", "context", "dead end"]
"""Why decoding stopped: the model's end token, where the text is complete · the token budget · the caller asked · the
time budget · the model's context is full · no token of the vocabulary is viable."""


class Validator(Protocol[S]):
    """Says which tokens keep the text viable. States are values."""

    def accept_block(self, state: S, ids: Sequence[int]) -> tuple[int, S]:
        """How many of `ids` may follow, and the state after exactly those."""
        ...

    def complete(self, state: S) -> bool:
        """May the text end here?"""
        ...


class Draft(NamedTuple):
    """A proposal for the next tokens."""

    ids: tuple[int, ...]
    source: str
    """Who proposed, for the statistics."""


class Drafter(Protocol):
    """Proposes tokens cheaply; the model decides."""

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        """At most `width` tokens that may follow `ids`, the prompt and all that was kept since."""
        ...


class Interrupted(Exception):
    """A pass was broken off; `stop` says why."""

    def __init__(self, stop: Literal["cancelled", "time"]) -> None:
        super().__init__(stop)
        self.stop: Literal["cancelled", "time"] = stop


Interrupt = Callable[[], Literal["cancelled", "time"] | None]
"""Asked before every pass and, where the scorer can, within one."""


def never() -> None:
    """The interrupt that never comes."""


class Scorer(Protocol):
    """The model with its cache."""

    @property
    def ids(self) -> Sequence[int]:
        """The tokens that the cache holds, from the first of the prompt."""
        ...

    @property
    def capacity(self) -> int:
        """How many tokens the cache can hold."""
        ...

    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Iterable[int]]:
        """Append `ids`, R >= 1 of them, in one pass.

        Row i of the R rows ranks what follows ids[i]: all V ids, first to be tried first. A row that is not read
        costs nothing beyond the pass. Raises `Interrupted`, with nothing appended, where `interrupt` asks for it.
        """
        ...

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        ...


class Window(Protocol):
    """How many tokens are drafted. A value: each step gives the next one."""

    @property
    def width(self) -> int:
        """Tokens to propose for the next pass."""
        ...

    def after(self, step: Step[Any]) -> Window:
        """The window after a pass."""
        ...


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What one pass gave."""

    ids: tuple[int, ...] = ()
    """Tokens kept, in order. None only where decoding stops without one."""
    states: tuple[S, ...] = ()
    """The validator's state after each of them."""
    source: str = ""
    """Who drafted."""
    drafted: int = 0
    """Tokens proposed."""
    viable: int = 0
    """How many of those the validator let through to be scored."""
    agreed: int = 0
    """How many of those were kept."""
    refused: int = 0
    """Tokens that the model preferred and the validator refused: each an error avoided."""
    stop: Stop | None = None
    """Why this is the last step, or None."""
