"""What the decoding loop asks of its parts, and what it yields.

Legend: R rows of one pass, V vocabulary. Tokens are ids, 0 <= id < V.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
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


Forced = Callable[[S], tuple[int, ...]]
"""The ids that must follow a state one after the other: at each place no other id is viable, and the text may not end.
Empty where there is a choice; forced text that can be cut into tokens in several ways leaves one."""


def nothing_forced(state: object) -> tuple[int, ...]:
    """Every place is a choice."""
    return ()


class Share(NamedTuple):
    """One drafter's part of a block."""

    source: str
    """Who proposed."""
    drafted: int
    """Tokens proposed."""
    viable: int = 0
    """How many of those the validator let through to be scored."""
    kept: int = 0
    """How many of those were kept."""


class Draft(NamedTuple):
    """A proposal for the next tokens."""

    ids: tuple[int, ...]
    source: str
    """Who proposed, for the statistics."""
    behind: tuple[tuple[str, int], ...] = ()
    """Who proposed the last tokens, in order, where others went on: names and how many tokens each."""

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Who proposed how many tokens, in order; no part is empty."""
        own = len(self.ids) - sum(count for _, count in self.behind)
        return tuple(part for part in ((self.source, own), *self.behind) if part[1])


class Drafter(Protocol):
    """Proposes tokens cheaply; the model decides."""

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        """At most `width` tokens that may follow `ids`, the prompt and all that was kept since.

        With a width of 0, asked for while a prompt is read, it may compute what a later proposal will need.
        """
        ...


class Interrupted(Exception):
    """A pass was broken off; `stop` says why."""

    def __init__(self, stop: Literal["cancelled", "time"]) -> None:
        super().__init__(stop)
        self.stop: Literal["cancelled", "time"] = stop


Interrupt = Callable[[], Literal["cancelled", "time"] | None]
"""Asked before every pass and, where the scorer can, within one. What it raises ends decoding there and then."""


def never() -> None:
    """The interrupt that never comes."""


class Ranking(Protocol):
    """What follows one token: all V ids, first to be tried first."""

    def __iter__(self) -> Iterator[int]: ...

    def log_probability(self, token: int) -> float:
        """Natural, of one id: under the model at temperature 1, whatever the order and the rules. In fp32."""
        ...


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

    @property
    def piece(self) -> int:
        """Tokens of a prompt that are appended at a time: enough to be efficient, few enough to be broken off soon."""
        ...

    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Ranking]:
        """Append `ids`, R >= 1 of them, in one pass.

        Row i of the R rows ranks what follows ids[i]. A row that is not read costs nothing beyond the pass; rows can be
        read until the next one. Raises `Interrupted`, with nothing appended, where `interrupt` asks for it.
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
    """What one pass gave: `forced` tokens, then those that `agreed`, then one more if nothing stops it."""

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
    forced: int = 0
    """Tokens taken without asking the model, before any draft: nothing else was viable."""
    width: int = 0
    """Tokens that might have been drafted."""
    shares: tuple[Share, ...] = ()
    """The same by drafter, in the order of the block, with what was forced."""
    stop: Stop | None = None
    """Why this is the last step, or None."""
    chosen: tuple[tuple[Ranking, int], ...] = field(default=(), compare=False, repr=False)
    """The rows that `ids` were taken from, and those; then the row of the end and its id, where the model ended."""

    def log_probabilities(self) -> list[float]:
        """Natural, of each id of `chosen`; see `Ranking`. Can be asked until the next pass."""
        return [ranking.log_probability(token) for ranking, token in self.chosen]


ASKED: Step[Any] = Step()
"""Not a step: a pass was asked for, and nobody has looked at it yet."""
