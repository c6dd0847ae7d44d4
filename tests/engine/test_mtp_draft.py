"""Drafts from cached rows equal drafts from scratch, and cost what is new."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.engine import Draft, FirstOf, NoDraft
from model.engine.mtp_draft import MTPDraft

WIDTH = 6
VOCABULARY = 9
EMBEDDING = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(1))
HEAD = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(2))


def hidden_of(ids: Sequence[int]) -> Tensor:
    """[T, K]: a state of every position that depends on all ids up to it."""
    return torch.tanh(EMBEDDING[list(ids)].cumsum(0))


class Summing:
    """Modules whose state mixes what is read with a running sum over their own rows, as attention would."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.rows = [torch.full((64, WIDTH), torch.nan) for _ in range(depth)]
        self.computed = 0

    def advance(self, depth: int, state: Tensor, tokens: Sequence[int], start: int) -> Tensor:
        assert len(tokens) == len(state)
        self.computed += len(tokens)
        rows = self.rows[depth]
        rows[start : start + len(tokens)] = state * (depth + 1) + EMBEDDING[list(tokens)]
        return torch.tanh(rows[: start + len(tokens)].cumsum(0)[start:])

    def best(self, depth: int, state: Tensor) -> int:
        return int((HEAD @ state).argmax())


class Scored:
    """The rows that a scorer would hold."""

    hidden = torch.full((64, WIDTH), torch.nan)


def slow_twin(ids: Sequence[int], width: int, depth: int) -> tuple[int, ...]:
    """Every row from scratch."""
    modules, state, drafted = Summing(depth), hidden_of(ids[:-1]), []
    for k in range(min(width, depth)):
        state = modules.advance(k, state, [*ids, *drafted][k + 1 : len(ids) + k], 0)
        drafted.append(modules.best(k, state[-1]))
    while len(drafted) < width:  # the last module goes on, one place further each time, from its own state
        state = modules.advance(depth - 1, state[-1:], drafted[-1:], len(ids) - 1 + len(drafted) - depth)
        drafted.append(modules.best(depth - 1, state[-1]))
    return tuple(drafted)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4)), max_size=8
    ),
    st.integers(1, 6),
    st.integers(1, 3),
)
@settings(deadline=None, max_examples=80)
def test_cached_rows_equal_rows_from_scratch(edits: list[tuple[int, list[int]]], width: int, depth: int) -> None:
    scored = Scored()
    drafter = MTPDraft(Summing(depth), scored, 64, longest=6)
    ids = [1, 2, 3]
    for back, new in edits:
        ids = ids[: max(len(ids) - back, 1)] + new
        scored.hidden = torch.full((64, WIDTH), torch.nan)
        scored.hidden[: len(ids) - 1] = hidden_of(ids[:-1])
        assert drafter.propose(ids, width) == Draft(slow_twin(ids, width, depth), "mtp")


def test_only_new_rows_are_computed() -> None:
    scored, modules = Scored(), Summing(2)
    drafter = MTPDraft(modules, scored, 64)
    ids = [token % VOCABULARY for token in range(40)]
    scored.hidden[:50] = hidden_of([token % VOCABULARY for token in range(50)])
    drafter.propose(ids, 2)
    assert modules.computed == 39 + 39
    drafter.propose([*ids, 40 % VOCABULARY, 41 % VOCABULARY], 2)
    assert modules.computed == 39 + 39 + 2 + 3


def test_rows_can_be_computed_while_the_prompt_is_read() -> None:
    scored, modules = Scored(), Summing(2)
    drafter = MTPDraft(modules, scored, 64)
    ids = [token % VOCABULARY for token in range(40)]
    scored.hidden[:39] = hidden_of(ids[:39])
    for end in (17, 18, 40):
        assert drafter.propose(ids[:end], 0).ids == ()
    assert modules.computed == 39 + 38
    assert drafter.propose(ids, 2).ids == slow_twin(ids, 2, 2)
    assert modules.computed == 39 + 39


def test_no_more_is_drafted_than_allowed_by_default_a_token_for_each_depth() -> None:
    scored = Scored()
    scored.hidden[:50] = hidden_of([token % VOCABULARY for token in range(50)])
    ids = [token % VOCABULARY for token in range(40)]
    for longest, expected in ((None, 2), (1, 1), (5, 5)):
        modules = Summing(2)
        assert len(MTPDraft(modules, scored, 64, longest).propose(ids, 9).ids) == expected
        assert modules.computed == min(expected, 2) * 39 + max(expected - 2, 0)


def test_nothing_is_proposed_before_a_token_is_cached_or_where_none_is_wanted() -> None:
    drafter = MTPDraft(Summing(2), Scored(), 64)
    assert drafter.propose([1], 2).ids == ()
    assert drafter.propose([1, 2], 0).ids == ()


def test_the_first_drafter_with_something_to_say_proposes() -> None:
    class Says:
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            return Draft((7,) * width, "says")

    assert FirstOf(NoDraft(), Says(), NoDraft()).propose([1], 3) == Draft((7, 7, 7), "says")
    assert FirstOf(NoDraft(), NoDraft()).propose([1], 3).ids == ()
