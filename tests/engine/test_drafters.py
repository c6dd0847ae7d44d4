"""Drafters: what they propose is what an obvious search finds, and the distribution of what is written stays."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.engine import (
    Accept,
    Draft,
    Drafter,
    FirstOf,
    Fixed,
    LookupDraft,
    NoDraft,
    Onward,
    Sampled,
    decode,
    trusting,
    verified,
)
from model.engine.drafters import common_prefix
from tests.engine.toy import Brackets, RandomDraft, ToyScorer

ids_of_few = st.lists(st.integers(0, 2), max_size=30)


class Says:
    """Proposes one token over and over, at most `count` times."""

    def __init__(self, token: int, count: int, name: str) -> None:
        self.draft = (token,) * count
        self.name = name

    def propose(self, ids: Sequence[int], width: int) -> Draft:
        return Draft(self.draft[: max(width, 0)], self.name)


def found(ids: list[int], shortest: int, longest: int, width: int) -> tuple[int, ...]:
    """The slow twin of `LookupDraft`: every place is looked at."""
    best, place = 0, 0
    for end in range(len(ids)):
        same = 0
        while same < min(longest, end) and ids[end - same - 1] == ids[len(ids) - same - 1]:
            same += 1
        if same >= shortest and same >= best:
            best, place = same, end
    copied = list(ids)
    while best and len(copied) < len(ids) + width:
        copied.append(copied[place + len(copied) - len(ids)])
    return tuple(copied[len(ids) :])


@given(st.lists(st.tuples(st.integers(0, 12), ids_of_few), max_size=6), st.integers(1, 3), st.integers(0, 3))
def test_look_up_finds_the_longest_repetition_whatever_was_asked_before(
    edits: list[tuple[int, list[int]]], shortest: int, more: int
) -> None:
    drafter = LookupDraft(shortest=shortest, longest=shortest + more)
    ids: list[int] = []
    for back, new in edits:
        ids = ids[: max(len(ids) - back, 0)] + new
        for width in (-1, 0, 2, 9):
            assert drafter.propose(ids, width).ids == found(ids, shortest, shortest + more, width)


def test_who_goes_on_sees_what_was_proposed_and_fills_the_room_left() -> None:
    class Next:
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            return Draft(tuple(range(ids[-1] + 1, ids[-1] + 1 + width)), "next")

    draft = Onward(Says(7, 2, "says"), Next()).propose([1], 5)
    assert draft == Draft((7, 7, 8, 9, 10), "says", (("next", 3),))
    assert draft.parts == (("says", 2), ("next", 3))
    assert Onward(Says(7, 2, "says"), Next()).propose([1], 2).parts == (("says", 2),)
    assert Onward(NoDraft(), Next()).propose([1], 2) == Draft((2, 3), "next")
    assert Onward(Says(7, 1, "a"), Onward(Says(8, 1, "b"), Says(9, 9, "c"))).propose([1], 4).parts == (
        ("a", 1),
        ("b", 1),
        ("c", 2),
    )
    assert Onward(NoDraft(), NoDraft()).propose([1], 2).parts == ()


@given(st.integers(0, 9999), st.integers(0, 6), st.integers(0, 4), st.sampled_from([verified, trusting]))
def test_what_each_drafter_proposed_and_what_became_of_it_adds_up(
    seed: int, width: int, first: int, accept: Accept
) -> None:
    drafter = Onward(Says(seed % 5, first, "says"), RandomDraft(12, seed))
    for step in decode(
        [3, 5, 4, 6],
        scorer=ToyScorer(12, seed),
        validator=Brackets(),
        state=0,
        drafter=drafter,
        order=Sampled(1.0, seed=seed),
        end_ids=(0,),
        max_tokens=30,
        window=Fixed(width),
        accept=accept,
    ):
        assert step.drafted == sum(share.drafted for share in step.shares) <= step.width <= width
        assert step.viable == sum(share.viable for share in step.shares)
        assert step.agreed == sum(share.kept for share in step.shares)
        assert all(0 <= share.kept <= share.viable <= share.drafted for share in step.shares)
        for one, other in itertools.pairwise(step.shares):
            assert one.viable == one.drafted or not other.viable, "a later part was scored, an earlier one was not"


class Chains:
    """After an even number that is no multiple of four its two successors must follow."""

    def accept_block(self, state: tuple[int, ...], ids: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        for count, token in enumerate(ids):
            if state and token != state[0]:
                return count, state
            state = state[1:] or self.chain(token) if not state else state[1:]
        return len(ids), state

    def complete(self, state: tuple[int, ...]) -> bool:
        return not state

    @staticmethod
    def chain(token: int) -> tuple[int, ...]:
        return (token + 1, token + 2) if token % 4 == 2 and token < 10 else ()

    @staticmethod
    def forced(state: tuple[int, ...]) -> tuple[int, ...]:
        return state


@given(st.integers(0, 9999), st.integers(0, 5), st.booleans(), st.integers(1, 30), st.integers(6, 40))
def test_forced_tokens_change_the_passes_and_not_the_text(
    seed: int, width: int, sampled: bool, most: int, capacity: int
) -> None:
    def run(drafter: Drafter, width: int, forced: object) -> tuple[list[int], list]:
        steps = list(
            decode(
                [3, 5, 4, 6],
                scorer=ToyScorer(12, seed, capacity),
                validator=Chains(),
                state=(),
                drafter=drafter,
                order=Sampled(1.0 if sampled else 0.01, seed=seed),
                end_ids=(0,),
                max_tokens=most,
                window=Fixed(width),
                **({"forced": forced} if forced else {}),
            )
        )
        return [token for step in steps for token in step.ids], steps

    alone, plain = run(NoDraft(), 0, None)
    for drafter in (NoDraft(), RandomDraft(12, seed), LookupDraft()):
        text, steps = run(drafter, width, Chains.forced)
        assert text == alone
        assert steps[-1].stop == plain[-1].stop
        assert len(steps) <= len(plain)
        for step in steps:
            assert len(step.ids) - step.forced - step.agreed in (0, 1)
            assert step.forced == sum(share.kept for share in step.shares if share.source == "forced")
    begun = sum(Chains.chain(token) != () for token in alone)
    if begun and most > len(alone) and capacity > len(alone) + 5:
        text, steps = run(NoDraft(), 0, Chains.forced)
        assert sum(step.forced for step in steps) == 2 * begun, "what was forced cost a pass"
        assert len(steps) == len(plain) - 2 * begun


CASES: dict[str, Drafter] = {
    "none": NoDraft(),
    "look-up": LookupDraft(shortest=1, longest=3),
    "random": RandomDraft(5, 1),
    "stubborn": Says(3, 4, "says"),
    "chain": Onward(Says(1, 1, "says"), FirstOf(LookupDraft(), RandomDraft(5, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_drafting_keeps_the_distribution(name: str) -> None:
    """Chi-square: three sampled tokens of five, of which the brackets allow some, against their exact probabilities."""
    scorer, validator, prompt = ToyScorer(5, seed=3), Brackets(deepest=2), [3, 1]
    expected: dict[tuple[int, ...], float] = {}

    def enumerate_texts(text: tuple[int, ...], state: int, share: float) -> None:
        if len(text) == 3:
            expected[text] = share
            return
        weights = torch.softmax(scorer.logits([*prompt, *text]).double() / 0.9, -1)
        allowed = [token for token in range(5) if validator.accept_block(state, [token])[0]]
        total = float(weights[allowed].sum())
        for token in allowed:
            after = validator.accept_block(state, [token])[1]
            enumerate_texts((*text, token), after, share * float(weights[token]) / total)

    enumerate_texts((), 1, 1.0)
    draws = 4000
    counts = dict.fromkeys(expected, 0)
    for seed in range(draws):
        scorer.truncate(0)
        steps = decode(
            prompt,
            scorer=scorer,
            validator=validator,
            state=1,
            drafter=CASES[name],
            order=Sampled(0.9, seed=seed),
            end_ids=(),
            max_tokens=3,
            window=Fixed(2),
        )
        counts[tuple(token for step in steps for token in step.ids)] += 1
    # Rare texts are taken together: the test needs about five of a kind.
    rare = {text for text, share in expected.items() if share * draws < 5}
    cells = [(counts[text], share * draws) for text, share in expected.items() if text not in rare]
    cells.append((sum(counts[text] for text in rare), sum(expected[text] for text in rare) * draws))
    chi_square = sum((seen - due) ** 2 / due for seen, due in cells if due)
    freedom = sum(due > 0 for _, due in cells) - 1
    # Wilson and Hilferty's cube root brings chi-square to the normal distribution; 3.3 is its 0.9995 quantile.
    score = ((chi_square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert freedom > 5
    assert abs(score) < 3.3, f"chi-square {chi_square:.1f} with {freedom} degrees of freedom"


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40), st.integers(0, 40))
def test_what_two_texts_begin_with(a: list[int], b: list[int], shared: int) -> None:
    b = [*a[:shared], *b]
    slow = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(a, b) == common_prefix(tuple(a), b) == common_prefix(b, a) == slow
