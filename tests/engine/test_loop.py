"""Any drafter, any order: the same text as token by token, and no more work than promised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.engine import (
    Accept,
    Drafter,
    Fixed,
    Greedy,
    LookupDraft,
    NoDraft,
    Order,
    Sampled,
    Step,
    Stop,
    Validator,
    Window,
    decode,
    moving,
    trusting,
    verified,
)
from model.engine.contracts import Draft
from model.engine.loop import PATIENCE
from tests.engine.toy import Brackets, PerfectDraft, RandomDraft, ToyScorer
from validators import AcceptAll

VOCABULARY = 12
END = frozenset({0})
PROMPT = [3, 5, 4, 6]

seeds = st.integers(0, 10_000)
orders = st.one_of(
    st.just(Greedy()),
    st.builds(Sampled, st.floats(0.2, 3.0), st.floats(0.05, 1.0), st.integers(0, 99)),
)
validators = st.sampled_from([(AcceptAll(), None), (Brackets(), 0), (Brackets(deepest=1), 0)])


def run(
    drafter: Drafter,
    order: Order,
    validator: tuple[Validator, object],
    seed: int,
    *,
    width: int = 2,
    max_tokens: int = 40,
    capacity: int = 10_000,
    prompt: list[int] = PROMPT,
    window: Window | None = None,
    accept: Accept = verified,
) -> tuple[list[int], Stop | None, list[Step], ToyScorer]:
    scorer = ToyScorer(VOCABULARY, seed, capacity)
    steps = list(
        decode(
            prompt,
            scorer=scorer,
            validator=validator[0],
            state=validator[1],
            drafter=drafter,
            order=order,
            end_ids=END,
            max_tokens=max_tokens,
            window=window or Fixed(width),
            accept=accept,
        )
    )
    return [token for step in steps for token in step.ids], steps[-1].stop, steps, scorer


def plain(scorer: ToyScorer, order: Order, validator: Validator, state: object, max_tokens: int) -> list[int]:
    """The slow twin: sort all scores, take the first that may follow, one token at a time."""
    ids = list(PROMPT)
    for _ in range(max_tokens):
        (keys,) = order.keys(scorer.logits(ids)[None], [len(ids)])
        for token in sorted(range(VOCABULARY), key=lambda t: (-float(keys[t]), t)):
            if token in END:
                if validator.complete(state):
                    return ids[len(PROMPT) :]
            elif validator.accept_block(state, [token])[0]:
                state = validator.accept_block(state, [token])[1]
                ids.append(token)
                break
    return ids[len(PROMPT) :]


@given(seeds, orders, validators, st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_every_drafter_gives_what_the_slow_twin_gives(seed: int, order: Order, validator, width: int) -> None:
    truth = plain(ToyScorer(VOCABULARY, seed), order, *validator, 40)
    for drafter in (NoDraft(), LookupDraft(), RandomDraft(VOCABULARY, seed), PerfectDraft(PROMPT + truth)):
        ids, stop, steps, _ = run(drafter, order, validator, seed, width=width)
        assert ids == truth
        assert stop == ("length" if len(truth) == 40 else "end")
        for step in steps:
            assert step.agreed <= step.viable <= step.drafted <= width
            assert len(step.ids) == len(step.states)
            assert step.agreed <= len(step.ids) <= step.agreed + 1


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_perfect_draft_of_two_takes_a_third_of_the_passes(seed: int) -> None:
    truth, *_, alone = run(NoDraft(), Greedy(), (AcceptAll(), None), seed)
    ids, _, steps, scorer = run(PerfectDraft(PROMPT + truth), Greedy(), (AcceptAll(), None), seed)
    assert ids == truth
    assert scorer.passes <= 2 + -(-len(truth) // 3) < 3 + alone.passes
    assert sum(step.agreed for step in steps) >= len(truth) * 2 // 3 - 1


def test_the_prompt_is_computed_once_and_never_again_when_it_grows() -> None:
    scorer = ToyScorer(VOCABULARY, 1)
    arguments = {"scorer": scorer, "validator": AcceptAll(), "state": None, "drafter": NoDraft(), "order": Greedy()}
    prompt = [token % 11 + 1 for token in range(1300)]
    list(decode(prompt, **arguments, end_ids=(), max_tokens=3, window=Fixed(0)))
    assert scorer.computed == 1300 + 2
    before = scorer.computed
    list(decode([*prompt, 7], **arguments, end_ids=(), max_tokens=1, window=Fixed(0)))
    assert scorer.computed - before <= 2


def test_stops_where_the_context_is_full() -> None:
    ids, stop, _, _ = run(RandomDraft(VOCABULARY, 0), Greedy(), (AcceptAll(), None), 3, capacity=9, width=4)
    alone, _, _, _ = run(NoDraft(), Greedy(), (AcceptAll(), None), 3)
    assert (ids, stop) == (alone[:6], "context")
    assert run(NoDraft(), Greedy(), (AcceptAll(), None), 3, capacity=3)[:2] == ([], "context")


@pytest.mark.parametrize(("asked", "pieces", "followed"), [(0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 2, 2)])
def test_an_interrupt_stops_before_the_next_pass_even_in_the_prompt(asked: int, pieces: int, followed: int) -> None:
    """Before each piece of the prompt, and before the drafter follows."""
    answers: Iterator = iter([*[None] * asked, "cancelled"])
    scorer = ToyScorer(VOCABULARY, 1)
    proposed: list[int] = []

    class Counting(NoDraft):
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            proposed.append(len(ids))
            return super().propose(ids, width)

    (step,) = decode(
        [1] * 2000,
        scorer=scorer,
        validator=AcceptAll(),
        state=None,
        drafter=Counting(),
        order=Greedy(),
        end_ids=(),
        max_tokens=5,
        window=Fixed(2),
        interrupt=lambda: next(answers),
    )
    assert step.stop == "cancelled"
    assert (scorer.computed, len(proposed)) == (pieces * scorer.piece, followed)


def test_the_drafter_follows_a_long_prompt_piece_by_piece() -> None:
    asked: list[int] = []

    class Counting(NoDraft):
        def propose(self, ids: Sequence[int], width: int) -> Draft:
            asked.append(len(ids))
            return super().propose(ids, width)

    scorer = ToyScorer(VOCABULARY, 1)
    next(
        iter(
            decode(
                [1] * 600,
                scorer=scorer,
                validator=AcceptAll(),
                state=None,
                drafter=Counting(),
                order=Greedy(),
                end_ids=(),
                max_tokens=5,
                window=Fixed(2),
            )
        )
    )
    assert asked == [scorer.piece + 1, 2 * scorer.piece + 1, 600, 600]


def test_nothing_viable_is_a_dead_end_and_counts_every_refusal() -> None:
    class Nothing(AcceptAll):
        def accept_block(self, state, ids):
            return 0, None

        def complete(self, state):
            return False

    ids, stop, steps, _ = run(NoDraft(), Greedy(), (Nothing(), None), 0)
    assert (ids, stop, steps[0].refused) == ([], "dead end", VOCABULARY)


def test_an_empty_prompt_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no token"):
        run(NoDraft(), Greedy(), (AcceptAll(), None), 0, prompt=[])


@given(seeds, orders, validators, st.integers(0, 3), st.integers(3, 32))
@settings(max_examples=60, deadline=None)
def test_a_moving_window_changes_the_passes_and_not_the_text(
    seed: int, order: Order, validator, narrowest: int, widest: int
) -> None:
    truth = plain(ToyScorer(VOCABULARY, seed), order, *validator, 40)
    for drafter in (LookupDraft(), RandomDraft(VOCABULARY, seed), PerfectDraft(PROMPT + truth)):
        ids, _, steps, _ = run(drafter, order, validator, seed, window=moving(narrowest, widest))
        assert ids == truth
        assert all(step.drafted <= widest for step in steps)


def test_a_window_widens_while_all_is_kept_and_narrows_when_not() -> None:
    window = moving(2, 16)
    widths = []
    for agreed in (2, 4, 8, 16, 16, 5, 0, 2):
        widths.append(window.width)
        window = window.after(Step(drafted=window.width, agreed=agreed))
    assert widths == [2, 4, 8, 16, 16, 16, 5, 2]
    assert window.width == 4
    assert window.after(Step(drafted=0)) == window


@given(seeds, validators)
@settings(max_examples=40, deadline=None)
def test_trusting_keeps_every_viable_draft_and_stays_viable(seed: int, validator) -> None:
    ids, _, steps, _ = run(RandomDraft(VOCABULARY, seed), Greedy(), validator, seed, accept=trusting)
    assert validator[0].accept_block(validator[1], ids)[0] == len(ids)
    assert all(step.agreed == step.viable for step in steps)
    truth, *_ = run(NoDraft(), Greedy(), validator, seed)
    assert run(NoDraft(), Greedy(), validator, seed, accept=trusting)[0] == truth


def test_a_long_search_for_a_viable_token_can_be_interrupted() -> None:
    class Nothing(AcceptAll):
        def accept_block(self, state, ids):
            return 0, None

    scorer = ToyScorer(5 * PATIENCE, 1)
    asked: Iterator = iter([None, None, "time"])
    (step,) = decode(
        [1],
        scorer=scorer,
        validator=Nothing(),
        state=None,
        drafter=NoDraft(),
        order=Greedy(),
        end_ids=(),
        max_tokens=5,
        window=Fixed(2),
        interrupt=lambda: next(asked),
    )
    assert step == Step(stop="time")
