"""The evaluation of gap-filling counts what it says it counts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from assistant.completion import Completion, Drafted, Request
from assistant.eval.fim import File, beginnings
from assistant.eval.served import Drafting, drafting, drafting_table, results, serve, table
from model.train.gaps import Cut


def completion(text: str, reason: str) -> Completion:
    return Completion(
        text=text,
        valid=True,
        finish_reason=reason,
        reason=None,
        tokens=6,
        passes=3,
        drafted=4,
        accepted=3,
        fallbacks=1,
        avoided=2,
        prompt_tokens=9,
        ms_first=1.0,
        ms_total=5.0,
        tokens_per_second=3.0,
        model="fake",
        device="cpu",
        drafters={"mtp": Drafted(2, 4, 4, 3), "none": Drafted(1)},
    )


class FakeSession:
    """Answers in order."""

    def __init__(self, *answers: Completion) -> None:
        self.answers: Iterator[Completion] = iter(answers)
        self.asked: list[Request] = []

    def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return next(self.answers)


def test_shares_are_of_the_gaps_of_each_shape() -> None:
    cuts = [
        Cut("x = ", "1", "", "\ny = 2\n", "line end"),
        Cut("x = ", "1", "", "\ny = 2\n", "line end"),
        Cut("x = ", "f(", "", ")\n", "span"),
    ]
    session = FakeSession(completion("1", "end"), completion("", "length"), completion(" 1 + (", "closed"))
    completions = list(serve(partial(map, session.complete), cuts, 32))
    ends, spans = results(cuts, completions)
    assert len(completions) == 3
    assert results(cuts, completions[:2]) == [ends]
    assert [request.max_tokens for request in session.asked] == [32] * 3
    assert (ends.gaps, ends.parses, ends.answered, ends.exact, ends.closed) == (2, 0.5, 0.5, 0.5, 0.5)
    assert (spans.gaps, spans.parses, spans.exact) == (1, 1.0, 0.0)
    assert (ends.tokens_per_pass, ends.refused, ends.ms) == (2.0, 4, 5.0)
    assert len(table([ends, spans]).splitlines()) == 3


def test_what_drafters_gave_is_added_up_over_all_gaps() -> None:
    drafted = drafting([completion("1", "end"), completion("2", "end")])
    assert drafted == Drafting(2.0, {"mtp": 8, "none": 0}, {"mtp": 6, "none": 0})
    assert drafting_table(drafted) == "2.00 tokens per pass in all, mtp kept 6 of 8"
    assert drafting([]).tokens_per_pass == 0


def test_a_beginning_is_half_the_lines_and_nothing_is_lost() -> None:
    files = [File("a", "odd.py", "x = 1\ny = 2\nz = 3"), File("a", "one.py", "x = 1")]
    odd, one = beginnings(files)
    assert (odd.prefix, odd.middle, odd.suffix, odd.shape) == ("x = 1\n", "y = 2\nz = 3", "", "beginning")
    assert (one.prefix, one.middle, one.suffix) == ("", "x = 1", "")
