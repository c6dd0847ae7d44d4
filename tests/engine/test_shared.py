"""Several texts over one decoder: the rankings of one at a time, in fewer passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import model
from model import lora
from model.engine import (
    ASKED,
    Greedy,
    Interrupted,
    LookupDraft,
    Order,
    Sampled,
    Step,
    decode,
    moving,
    turns,
)
from model.engine.choose import gains_together, scorers_for
from model.engine.scorer import CachedScorer
from model.engine.shared import SharedPasses, SharedScorer
from model.layers import ROWS_APART
from tests.engine.toy import Brackets
from tests.tiny import write_tiny_safetensors
from tests.train.test_lora import random_adapter

PROMPTS = [[(7 * i + place * (i + 3)) % 251 for place in range(1 + 23 * i)] for i in range(6)]
ORDERS: list[Order] = [Greedy(), Sampled(0.9, seed=4)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[model.Decoder, lora.Switch]:
    path = write_tiny_safetensors(tmp_path_factory.mktemp("shared"))
    decoder = model.load(path, dtype="int8")
    return decoder, lora.attach_eight_bits(decoder, random_adapter(model.load(path, dtype="float32"), 5, 3))


@pytest.fixture
def decoder(loaded: tuple[model.Decoder, lora.Switch]) -> model.Decoder:
    return loaded[0]


def shared(loaded: tuple[model.Decoder, lora.Switch], count: int) -> tuple[SharedPasses, list[SharedScorer]]:
    passes = SharedPasses(*loaded)
    return passes, [SharedScorer(passes, 256) for _ in range(count)]


def arguments(scorer: CachedScorer | SharedScorer, order: Order, max_tokens: int) -> dict[str, object]:
    return {
        "scorer": scorer,
        "validator": Brackets(),
        "state": 0,
        "drafter": LookupDraft(),
        "order": order,
        "end_ids": (250,),
        "max_tokens": max_tokens,
        "window": moving(3, 9),
    }


def in_turn(runs: list[Iterator[Step[int]]]) -> list[list[Step[int]]]:
    """The steps of each run; each goes on until it waits for a pass."""
    found: list[list[Step[int]]] = [[] for _ in runs]
    turn = deque(enumerate(runs))
    while turn:
        place, run = turn.popleft()
        for step in run:
            if step is ASKED:
                turn.append((place, run))
                break
            found[place].append(step)
    return found


@examples(max_examples=8)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 20)), min_size=1, max_size=6),
    st.sampled_from(ORDERS),
)
def test_texts_in_turn_give_the_steps_of_one_at_a_time(
    loaded: tuple[model.Decoder, lora.Switch], texts: list[tuple[int, bool, int]], order: Order
) -> None:
    expected, alone = [], 0
    for prompt, adapted, length in texts:
        scorer = CachedScorer(loaded[0], 256)
        with loaded[1].set(adapted):
            expected.append(list(decode(PROMPTS[prompt], **arguments(scorer, order, length))))
        alone += scorer.passes
    passes, scorers = shared(loaded, len(texts))
    runs = []
    for scorer, (prompt, adapted, length) in zip(scorers, texts, strict=True):
        scorer.adapter.on = adapted
        runs.append(turns(PROMPTS[prompt], **arguments(scorer, order, length)))
    assert in_turn(runs) == expected
    assert passes.passes <= alone


def test_the_weights_are_read_once_for_all(loaded: tuple[model.Decoder, lora.Switch]) -> None:
    passes, scorers = shared(loaded, 4)
    blocks = [scorer.extend(PROMPTS[2][i : i + 5], Greedy()) for i, scorer in enumerate(scorers)]
    assert passes.passes == 0
    for rows in blocks:
        for row in rows:
            next(iter(row))
    assert passes.passes == 1
    assert [list(scorer.ids) for scorer in scorers] == [PROMPTS[2][i : i + 5] for i in range(4)]


def test_a_run_of_texts_makes_the_passes_of_its_longest(loaded: tuple[model.Decoder, lora.Switch]) -> None:
    passes, scorers = shared(loaded, 4)
    plain = {"drafter": LookupDraft(shortest=60, longest=60), "end_ids": ()}
    in_turn([turns(PROMPTS[1], **arguments(scorer, Greedy(), 12) | plain) for scorer in scorers])
    # The prompt's 23 tokens fit a pass for each text and no more; then 12 passes that all share.
    assert passes.passes == 4 + 12


def test_what_does_not_fit_waits_for_the_next_pass(loaded: tuple[model.Decoder, lora.Switch]) -> None:
    passes, scorers = shared(loaded, 4)
    for scorer, count in zip(scorers, (ROWS_APART - 8, 9, 8, 60), strict=True):
        scorer.extend(PROMPTS[5][:count], Greedy())
    assert len(scorers[0].ids) == ROWS_APART - 8 and passes.passes == 1
    assert len(scorers[2].ids) == 8 and passes.passes == 1, "it fitted the first one"
    assert len(scorers[1].ids) == 9 and passes.passes == 2
    assert len(scorers[3].ids) == 60 and passes.passes == 3, "what is long has a pass to itself"


def test_the_first_rows_of_all_are_multiplied_by_the_head_together(
    loaded: tuple[model.Decoder, lora.Switch], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    head = loaded[0].head
    monkeypatch.setattr(loaded[0], "head", lambda hidden: (computed.append(len(hidden)), head(hidden))[1])
    _, scorers = shared(loaded, 3)
    blocks = [scorer.extend(PROMPTS[2][:count], Greedy()) for scorer, count in zip(scorers, (6, 2, 3), strict=True)]
    for rows in blocks:
        next(iter(rows[0]))
    assert computed == [4 + 2 + 3]
    next(iter(blocks[0][5]))
    assert computed == [9, 2]


def test_a_pass_that_is_broken_off_is_so_for_one_text_alone(loaded: tuple[model.Decoder, lora.Switch]) -> None:
    passes, (first, second) = shared(loaded, 2)
    rows = first.extend(PROMPTS[1][:3], Greedy(), lambda: "cancelled")
    others = second.extend(PROMPTS[1][:3], Greedy())
    with pytest.raises(Interrupted):
        next(iter(rows[0]))
    assert list(first.ids) == [] and passes.passes == 0
    with pytest.raises(RuntimeError, match="broken off"):
        next(iter(rows[0]))
    expected = CachedScorer(loaded[0], 256)
    with loaded[1].set(second.adapter.on):
        best = [list(islice(row, 5)) for row in expected.extend(PROMPTS[1][:3], Greedy())]
    assert [list(islice(row, 5)) for row in others] == best
    first.extend(PROMPTS[1][:3], Greedy())
    first.truncate(0)
    assert list(first.ids) == [] and passes.passes == 1, "what is forgotten is not computed"


def test_only_products_that_read_weights_once_gain(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_tiny_safetensors(tmp_path_factory.mktemp("gains"))
    gains = {dtype: gains_together(model.load(path, dtype=dtype)) for dtype in ("int8", "int4", "bfloat16", "float32")}
    assert gains == {"int8": True, "int4": True, "bfloat16": False, "float32": False}


def test_one_text_has_the_scorer_that_it_always_had(loaded: tuple[model.Decoder, lora.Switch]) -> None:
    ((scorer, switch),) = scorers_for(loaded[0], 32, 1, loaded[1])
    assert isinstance(scorer, CachedScorer) and switch is loaded[1]
    assert all(isinstance(scorer, SharedScorer) for scorer, _ in scorers_for(loaded[0], 32, 3, loaded[1]))
