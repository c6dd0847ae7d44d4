"""Several answers to one gap: which is the best, and what a session makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.errors import UsageProblem
from assistant.session import Session, open_session, open_sessions
from assistant.settings import MOST_TRIES, Settings
from assistant.tries import APART, TRIED_AT, Likelihood, Try, choose, drawn, faults
from model.engine import Interrupt, Order, Sampled, never
from tests.assistant.scripted import scripted
from tests.tiny import write_tiny_gguf

FAULTS = {"": 0, "a": 2, "b": 0, "c": 1}
"""By text."""
ANY = st.builds(
    Try,
    text=st.sampled_from(list(FAULTS)),
    closing=st.just(""),
    valid=st.booleans(),
    finish_reason=st.sampled_from(["end", "closed", "unit", "length", "time", "cancelled", "dead end", "context"]),
    written=st.just("w"),
    written_tokens=st.just(1),
    log_probability=st.sampled_from([-8.0, -2.0, -0.5, 0.0]),
    tokens=st.sampled_from([0, 1, 16]),
)
GOOD = Try("b", "", True, "end", "b", 1, -1.0, 1)


@given(st.lists(ANY, min_size=1, max_size=6))
def test_the_best_is_the_best_in_whatever_order_and_by_pairs(tries: list[Try]) -> None:
    best = choose(tries, FAULTS.__getitem__)
    assert best in tries

    def rank(each: Try) -> tuple[Any, ...]:
        usable, ended = bool(each.text and each.valid), each.finish_reason in ("end", "closed", "unit")
        score = each.log_probability / each.tokens**0.25 if each.tokens else -math.inf
        return usable, bool(each.text), ended, -FAULTS[each.text], score

    assert rank(best) == max(map(rank, tries))
    assert tries.index(best) == min(i for i, each in enumerate(tries) if rank(each) == rank(best)), (
        "of equals the first"
    )
    one_by_one = tries[0]
    for each in tries[1:]:
        one_by_one = choose([one_by_one, each], FAULTS.__getitem__)
    assert one_by_one is best or one_by_one == best


def test_what_counts_for_more_comes_first() -> None:
    """Each is better than all that follow, however probable those are."""
    ranked = [
        GOOD,
        replace(GOOD, log_probability=-2.0),
        replace(GOOD, text="c", log_probability=-0.1),
        replace(GOOD, finish_reason="length", log_probability=0.0),
        replace(GOOD, valid=False),
        replace(GOOD, text="", valid=True),
    ]
    for order in permutations(ranked, 2):
        assert choose(order, FAULTS.__getitem__) == min(order, key=ranked.index)
    longer = replace(GOOD, log_probability=-1.5, tokens=16)
    assert choose([GOOD, longer], FAULTS.__getitem__) == longer, "-0.75 for its length"


def test_faults_are_looked_for_where_they_can_decide() -> None:
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return 0

    choose([GOOD], count)
    choose([GOOD, replace(GOOD, log_probability=-3.0)], count)
    choose([GOOD, replace(GOOD, text="a", valid=False), replace(GOOD, text="c", finish_reason="time")], count)
    assert asked == []
    choose([GOOD, replace(GOOD, text="a"), replace(GOOD, text="a", log_probability=-3.0)], count)
    assert sorted(asked) == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        *(("", 0), ("x = 1\n", 0), ("x = y\n", 1), ("import os, sys\nos.getcwd()\n", 1), ("x = (\n", 0)),
        *(("def f(): ...\ndef f(): ...\n", 1), ("{1: 2, 1: 3}\n", 2), ("x = '\\d'\n", 0), ("\ufeffx = y\n", 1)),
        *(("x = y\r\nz = x\r\n", 1), ("x = y\r", 1), ("\0", 0), ("x = '\ud800'\n", 0), ("return 1\n", 1)),
        *(('"""\n>>> nobody\n"""\n', 0), ("# noqa\nx = y  # noqa\n", 1), ("from os import *\nx = getcwd\n", 2)),
        *(("x = " + "+".join("1" * 4000) + "\n", 0), ("(" * 300 + ")" * 300, 0), ("x = -" + "-" * 3000 + "1\n", 0)),
    ],
)
def test_faults_of_a_file(source: str, count: int) -> None:
    assert faults(source) == count


@given(st.lists(st.text(max_size=3), min_size=1, max_size=12), st.data())
def test_how_tokens_were_grouped_makes_no_difference(pieces: list[str], data: st.DataObject) -> None:
    terms = [-(i + 1.0) for i in range(len(pieces))]
    whole, parts = Likelihood(), Likelihood()
    whole.add(pieces, terms)
    begin = 0
    while begin < len(pieces):
        end = data.draw(st.integers(begin + 1, len(pieces)))
        parts.add(pieces[begin:end], terms[begin:end])
        begin = end
    text = "".join(pieces)
    for characters in range(len(text) + 1):
        told, count = parts.first(characters)
        assert (told, count) == whole.first(characters)
        assert told == sum(terms[:count])
        assert len("".join(pieces[:count])) >= characters
        assert count == 1 or len("".join(pieces[: count - 1])) < characters
    assert parts.whole() == (sum(terms), len(pieces))
    parts.add([], [-0.5])
    assert parts.whole() == (sum(terms) - 0.5, len(pieces) + 1), "the end is a token"


def test_where_nothing_was_written_nothing_is_probable() -> None:
    assert Likelihood().whole() == Likelihood().first(0) == Likelihood().first(9) == (0, 0)
    assert replace(GOOD, tokens=0).score == -math.inf


def test_the_first_try_is_the_request_and_the_others_are_drawn() -> None:
    assert list(drawn(Settings(seed=5))) == [Settings(seed=5)]
    cold, warm = Settings(seed=5, tries=3, top_p=0.9), Settings(tries=2, temperature=0.2)
    others = [(each.temperature, each.seed, each.top_p) for each in drawn(cold)]
    assert others == [(0.0, 5, 0.9), (TRIED_AT, 5 + APART, 0.9), (TRIED_AT, 5 + 2 * APART, 0.9)]
    assert [(each.temperature, each.seed) for each in drawn(warm)] == [(0.2, 0), (0.2, APART)]


@pytest.mark.parametrize("number", [0, -1, MOST_TRIES + 1])
def test_a_number_of_tries_that_makes_no_sense(number: int) -> None:
    with pytest.raises(UsageProblem, match=f"tries must be at (least 1|most 64), not {number}"):
        Settings(tries=number)


# A session whose model writes another script for each seed.


class Scores:
    """A row: its order, and how probable its first id is."""

    def __init__(self, ranking: Iterable[int], told: float) -> None:
        self._ranking = ranking
        self._told = told

    def __iter__(self) -> Iterator[int]:
        return iter(self._ranking)

    def log_probability(self, token: int) -> float:
        return self._told


def trying(gap: Gap, scripts: Sequence[tuple[str, float]], **settings: object) -> tuple[Session, list[int]]:
    """A session whose i-th try writes the i-th script, every token of which has that log-probability; and the rows of
    each pass, the prompt's among them."""
    session = scripted(gap, "", tries=len(scripts), **settings)
    scorer: Any = session._scorer
    passes: list[int] = []

    def extend(ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Scores]:
        passes.append(len(ids))
        text, told = scripts[order.seed // APART if isinstance(order, Sampled) else 0]
        first = len(scorer.ids) + 1
        scorer.ids += ids
        scorer.script = tuple(text.encode())
        return [Scores(scorer._ranking(first + row - scorer.begin), told) for row in range(len(ids))]

    scorer.extend = extend
    return session, passes


LINE = Gap("import os\n\nhere = ", "\nprint(os, here)\n")


@pytest.mark.parametrize(
    ("scripts", "chosen"),
    [
        *(([("nobody()", -0.1), ("os.getcwd()", -2.0)], 1), ([("1", -2.0), ("2", -1.0), ("3", -1.5)], 1)),
        *(([("1", -1.0), ("1", -0.5)], 0), ([("", -0.1), ("7", -9.0)], 1), ([(")", -0.1), ("7", -9.0)], 1)),
        *(([("[1, 2, 3, 4, 5, 6, 7, 8, 9]", -0.1), ("7", -9.0)], 1), ([("{1: 2, 1: 3}", 0.0), ("{}", -1.0)], 1)),
    ],
)
def test_the_best_one_is_given(scripts: list[tuple[str, float]], chosen: int) -> None:
    session, _ = trying(LINE, scripts, max_tokens=20)
    found = session.complete(Request(LINE))
    assert found.text == scripts[chosen][0]
    assert found.tries == len(scripts)
    assert found.answer_tokens == len(found.text)
    assert found.valid


def test_the_prompt_is_computed_once() -> None:
    session, passes = trying(LINE, [("1", -1.0), ("2", -1.0), ("3", -1.0)])
    found = session.complete(Request(LINE))
    assert passes[0] == found.prompt_tokens - 1
    assert sum(passes[1:]) <= found.tokens + found.drafted + 3, "each try begins with the prompt's last token"
    assert len(passes) - 1 == found.passes


def test_nothing_is_shown_that_is_taken_back() -> None:
    session, _ = trying(LINE, [("111", -3.0), ("222", -1.0), ("333", -2.0)])
    chunks = list(session.stream(Request(LINE)))
    assert [chunk.text for chunk in chunks[:-1]] == [""] * (len(chunks) - 1)
    assert chunks[-1].text == "222"
    assert "".join(chunk.written for chunk in chunks) == "111222333"
    assert [chunk.completion is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert sum(len(chunk.step.ids) for chunk in chunks) == 9


@pytest.mark.parametrize("stop", ["cancelled", "time"])
def test_broken_off_it_gives_the_best_so_far(stop: str) -> None:
    scripts = [("1111", -3.0), ("2222", -1.0), ("3333", 0.0)]
    session, passes = trying(LINE, scripts, draft="none", block=1)
    alone = scripted(LINE, "1111", draft="none", block=1)
    given: dict[int, Completion] = {}
    for count in range(20):
        passes.clear()
        session.forget()
        given[count] = session.complete(Request(LINE), lambda: stop if len(passes) > count else None)  # noqa: B023
    assert [given[count].tries for count in range(20)] == [1] * 10 + [2] * 5 + [3] * 5
    assert [given[count].text for count in (9, 10, 14, 15, 19)] == ["1111", "2222", "2222", "3333", "3333"]
    assert given[0].finish_reason == given[4].finish_reason == stop
    assert {given[count].finish_reason for count in range(5, 20)} == {"end"}
    for count in range(5):
        scorer: Any = alone._scorer
        alone.forget()
        scorer.passes = 0
        single = alone.complete(Request(LINE), lambda: stop if scorer.passes > count else None)  # noqa: B023
        assert (single.text, single.reason, single.tokens, single.passes) == (
            *(given[count].text, given[count].reason, given[count].tokens, given[count].passes),
        )


def test_each_try_is_over_where_the_caller_says() -> None:
    gap = Gap("x = ", "")
    session, _ = trying(gap, [("11\n22\n33\n", -1.0), ("4\n5\n", -0.5)])
    found = session.complete(Request(gap, over=lambda written: (written.find("\n") + 1) or None))
    assert (found.text, found.finish_reason, found.tries) == ("4\n", "unit", 2)
    assert found.tokens <= 3 + 2 + 2 * 2, "it went on behind its end"


# A tiny model at random, with all that serves a real one.

GAPS = [
    Gap("def f(a, b):\n    return ", "\n\n\nprint(f(1, 2))\n"),
    Gap("import os\nfor i in range(3):\n    ", ""),
    Gap("x = = 1\ny = ", "\n"),
    Gap("x = [", "]\r\ny = 1\r\n"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model"), kind="Q8_0")
    return Settings(model=str(path), device="cpu", max_tokens=6, context=256)


@pytest.fixture(scope="module")
def session(tiny: Settings) -> Session:
    return open_session(tiny)


SUMS = ("tokens", "passes", "drafted", "accepted", "fallbacks", "avoided", "forced")


def singles(session: Session, request: Request, count: int) -> list[Completion]:
    """Each of the tries as a request of its own."""
    settings = request.settings(session.settings).replaced(tries=count)
    return [
        session.complete(replace(request, tries=1, temperature=each.temperature, seed=each.seed))
        for each in drawn(settings)
    ]


@pytest.mark.parametrize("gap", GAPS, ids=["gap", "no suffix", "broken", "windows"])
@pytest.mark.parametrize("unit", ["none", "expression"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tries_are_what_requests_are(session: Session, gap: Gap, unit: str, temperature: float) -> None:
    request = Request(gap, unit=unit, temperature=temperature, seed=11, tries=4)
    session.forget()
    found = session.complete(request)
    alone = singles(session, request, 4)
    assert found.tries == 4
    (chosen,) = {each.text for each in alone if (each.text, each.finish_reason) == (found.text, found.finish_reason)}
    assert found.text == chosen
    for name in SUMS:
        assert getattr(found, name) == sum(getattr(each, name) for each in alone), name
    assert found.answer_tokens in {each.tokens for each in alone if each.text == found.text}
    assert found.widest == max(each.widest for each in alone)
    for name, did in found.drafters.items():
        parts = [each.drafters[name] for each in alone if name in each.drafters]
        assert did.proposed == sum(part.proposed for part in parts)
    session.forget()
    again = session.complete(request)
    assert (again.text, again.tokens, again.passes) == (found.text, found.tokens, found.passes)


def test_a_try_computes_what_its_request_would(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ids in the same passes, of which the prompt's come once."""
    calls: list[list[int]] = []
    extend = session._scorer.extend

    def watched(ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Any:
        calls.append(list(ids))
        return extend(ids, order, interrupt)

    monkeypatch.setattr(session._scorer, "extend", watched)
    request = Request(GAPS[0], tries=3, seed=2)
    session.forget()
    found = session.complete(request)
    together = calls.copy()
    calls.clear()
    session.forget()
    singles(session, request, 3)
    assert together == calls
    assert sum(map(len, together)) < 2 * found.prompt_tokens


def test_one_try_asks_for_nothing_that_a_request_did_not(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_asked(*arguments: object) -> int:
        raise AssertionError("one answer needs no comparison")

    monkeypatch.setattr("model.engine.contracts.Step.log_probabilities", never_asked)
    monkeypatch.setattr("assistant.tries.faults", never_asked)
    for gap in GAPS:
        chunks = list(session.stream(Request(gap)))
        last = chunks[-1].completion
        assert last and (last.tries, last.answer_tokens) == (1, last.tokens)
        assert [chunk.text for chunk in chunks] == [chunk.written for chunk in chunks]


def test_drafts_do_not_choose(session: Session, tiny: Settings) -> None:
    """What is probable is so however it was computed: block by block and token by token the same try is the best."""
    singly = open_session(tiny.replaced(block=1, draft="none"))
    for gap in GAPS:
        for unit in ("none", "line"):
            request = Request(gap, tries=5, unit=unit, max_tokens=12)
            one, three = singly.complete(request), session.complete(request)
            assert (one.text, one.finish_reason, one.tries) == (three.text, three.finish_reason, three.tries)


def test_time_is_the_limit_of_all_tries_together(session: Session) -> None:
    found = session.complete(Request(GAPS[0], tries=64, max_tokens=200, max_ms=300))
    assert found.ms_total < 5000
    assert 1 <= found.tries < 64
    assert session.complete(Request(GAPS[0], tries=9, max_ms=1)).finish_reason == "time"
    with pytest.raises(UsageProblem, match="tries"):
        session.complete(Request(GAPS[0], tries=0))


def test_sessions_that_share_their_passes_give_what_one_gives(session: Session, tiny: Settings) -> None:
    requests = [Request(gap, tries=3, seed=i, temperature=i / 2) for i, gap in enumerate(GAPS)]
    expected = []
    for request in requests:
        session.forget()
        expected.append(session.complete(request))
    for count in (1, 4):
        running = {
            i: each.turns(request)
            for i, (each, request) in enumerate(zip(open_sessions(tiny, 4), requests[:count], strict=False))
        }
        found: dict[int, Completion] = {}
        while running:
            for i, turns in list(running.items()):
                try:
                    next(turns)
                except StopIteration as done:
                    found[i] = done.value
                    del running[i]
        for i, completion in found.items():
            assert (completion.text, completion.finish_reason, completion.tries) == (
                *(expected[i].text, expected[i].finish_reason, 3),
            )


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("adapter", [True, False])
def test_the_default_model_is_tried(default_model: Path, adapter: bool) -> None:
    from assistant.settings import DEFAULT_MODEL

    session = open_session(Settings(model=DEFAULT_MODEL, device="cpu", offline=True, max_tokens=24, adapter=adapter))
    for gap in (LINE, Gap("def area(width, height):\n    ", "")):
        request = Request(gap, tries=4, seed=3)
        session.forget()
        found = session.complete(request)
        assert found.valid and found.tries == 4
        alone = singles(session, request, 4)
        assert found.text in {each.text for each in alone}
        for name in SUMS:
            assert getattr(found, name) == sum(getattr(each, name) for each in alone), name
        session.forget()
        assert session.complete(request).text == found.text
        session.forget()
        assert session.complete(Request(gap, tries=1)).text == alone[0].text
