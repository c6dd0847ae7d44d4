"""Which token is kept at a place: the two rules under which a drafted block is accepted."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from model.engine.contracts import Validator

S = TypeVar("S", bound=Hashable)


class Choice(NamedTuple, Generic[S]):
    """A token that is kept, or the reason why none is."""

    token: int
    state: S
    """The validator's state after it."""
    refused: int
    """Tokens that ranked higher and were refused."""
    stop: Literal["end", "dead end"] | None


class Accept(Protocol):
    """A rule. `drafted` is the viable token proposed here, None behind the draft; `ranking` is the model's row."""

    def __call__(
        self,
        drafted: int | None,
        ranking: Iterable[int],
        validator: Validator[S],
        state: S,
        end_ids: Container[int],
    ) -> Choice[S]: ...


def verified(
    drafted: int | None,
    ranking: Iterable[int],
    validator: Validator[S],
    state: S,
    end_ids: Container[int],
) -> Choice[S]:
    """The first viable token of the model's own row, whatever was drafted.

    A drafter then changes the number of passes and never the text. For a draft that is certain of itself this is
    speculative sampling (Leviathan et al. 2023, section 2.3): the draft is kept with the probability that the
    validated model gives it, and what replaces it follows the rest of that distribution.
    """
    refused = 0
    for token in ranking:
        if token in end_ids:
            if validator.complete(state):
                return Choice(token, state, refused, "end")
        else:
            accepted, after = validator.accept_block(state, (token,))
            if accepted:
                return Choice(token, after, refused, None)
        refused += 1
    return Choice(-1, state, refused, "dead end")


def trusting(
    drafted: int | None,
    ranking: Iterable[int],
    validator: Validator[S],
    state: S,
    end_ids: Container[int],
) -> Choice[S]:
    """The drafted token as long as it is viable, without a look at the model's row; behind the draft, `verified`.

    Faster, and the text is the drafter's as much as the model's.
    """
    if drafted is None:
        return verified(drafted, ranking, validator, state, end_ids)
    return Choice(drafted, validator.accept_block(state, (drafted,))[1], 0, None)
