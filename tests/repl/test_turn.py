"""One turn of the model, against a session that writes what it is told to."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from prompt_toolkit.utils import get_cwidth

from assistant.completion import Cancel, Drafted, Request
from assistant.document import Gap
from assistant.repl.notes import Totals, after_turn, trace, trace_head, trace_width
from assistant.repl.turn import Block, Turn, take_turn
from tests.repl.fake import FakeSession, pieces

BODY = "    if n < 2:\n        return False\n    return True\n"
MORE = "\n\nprint(is_prime(7))\nprint(is_prime(8))\n"


def turn(
    answer: str,
    before: str = "def is_prime(n):\n",
    *,
    whole_unit: bool = True,
    after: int | None = None,
    stop: str = "end",
    unit: str | None = None,
) -> tuple[Turn, str, FakeSession]:
    """The turn, what was shown, and the session. `after` pieces it is cancelled."""
    session = FakeSession(lambda _: answer, stop=stop)
    shown: list[str] = []
    cancel = Cancel()

    def show(text: str) -> None:
        shown.append(text)
        if len(shown) == after:
            cancel.set()

    result = take_turn(session, before, Request(Gap(before, ""), unit=unit), cancel, show, whole_unit=whole_unit)
    return result, "".join(shown), session


def test_it_ends_with_the_unit() -> None:
    result, shown, session = turn(BODY + MORE)
    assert result.completion.text == BODY
    assert result.completion.finish_reason == "unit"
    assert result.completion.valid
    assert shown == result.shown
    assert shown.startswith(BODY)
    assert session.steps < len(pieces(BODY)) + 4, "the model was stopped, not only cut"
    assert result.cut.strip() in {"print", "print("}
    assert after_turn(result) == []


def test_it_ends_where_the_model_does() -> None:
    result, shown, session = turn(BODY + MORE, whole_unit=False)
    assert result.completion.text == shown == BODY + MORE
    assert result.cut == ""
    assert session.steps == len(pieces(BODY + MORE))
    assert after_turn(result) == []


def test_a_unit_that_is_named_is_the_sessions_to_end() -> None:
    result, _, _ = turn("1", "x = ", stop="unit", unit="line")
    assert (result.completion.text, result.completion.finish_reason) == ("1\n", "unit"), "what comes next is a line"
    assert turn("1", "x = ", stop="unit", unit="expression")[0].completion.text == "1"
    assert turn(BODY + MORE, unit="function")[0].completion.text == BODY + MORE, "no guess by lines"
    assert turn(BODY + MORE, unit="none")[0].completion.text == BODY


def test_cancelled_it_keeps_what_is_valid_and_says_so() -> None:
    count = len(pieces("    if n < 2:\n        return False\n    return (1 +"))
    result, _, session = turn("    if n < 2:\n        return False\n    return (1 +" + MORE, after=count)
    assert session.steps == count
    assert result.completion.text == "    if n < 2:\n        return False\n"
    assert result.cut == "    return (1 +"
    (said,) = after_turn(result)
    assert "✂ cut 'return (1 +'" in said[1]
    assert "stopped" in said[1]


def test_the_indentation_of_the_next_unit_is_known() -> None:
    result, _, _ = turn("        return 1\n\n    def other(self):\n", "class A:\n    def one(self):\n")
    assert result.completion.text == "        return 1\n"
    assert result.indent == "    "


def test_nothing_valid_is_said() -> None:
    result, _, _ = turn("    x = (\n")
    assert result.completion.text == ""
    assert "cut 'x = ('" in after_turn(result)[0][1]


def test_an_empty_answer_is_said() -> None:
    result, _, _ = turn("", "x = 1\n")
    assert after_turn(result) == [("note", "the model has nothing to add")]


def test_limits_are_said() -> None:
    for stop, word in (("length", "max_tokens"), ("time", "max_ms"), ("context", "context")):
        result, _, _ = turn(BODY, stop=stop, whole_unit=False)
        assert word in after_turn(result)[0][1]


def test_blocks_are_recorded() -> None:
    result, _, session = turn(BODY, whole_unit=False)
    written = [block for block in result.blocks if block.tokens]
    assert "".join(block.text for block in written) == BODY
    assert len(written) == session.steps


def test_of_several_tries_one_is_shown_when_all_are_written() -> None:
    answers = iter([MORE, BODY + MORE, BODY])
    session = FakeSession(lambda _: next(answers))
    shown: list[str] = []
    counted: list[int] = []
    request = Request(Gap("def is_prime(n):\n", ""), tries=2)
    result = take_turn(
        session, request.gap.prefix, request, Cancel(), shown.append, whole_unit=True, trying=counted.append
    )
    assert counted == sorted(counted) and set(counted) == {1, 2}
    assert "".join(shown[:-1]) == "", "nothing is shown that may be replaced"
    assert shown[-1].startswith(BODY) and result.shown == shown[-1]
    assert result.completion.text == BODY
    assert {block.attempt for block in result.blocks} == {1, 2}
    for attempt, text in ((1, MORE), (2, BODY + MORE)):
        written = "".join(block.text for block in result.blocks if block.attempt == attempt)
        assert text.startswith(written) and written
    assert session.steps < len(pieces(MORE + BODY + MORE)), "each try ends with its unit"


def test_the_trace_shows_what_became_of_drafts() -> None:
    """Drafted blocks have a line each; single tokens share one until the program's line ends."""
    blocks = (
        Block("\n  a", 3, 2, 2, 2, 0),
        Block("b", 1, 2, 1, 0, 3),
        *(Block(text, 1, 0, 0, 0, 0) for text in ("x", " =", " 1", "\n", "y")),
        Block("c", 1, 0, 0, 0, 2),
        Block("", 1, 1, 1, 0, 0),
        Block("", 0, 0, 0, 0, 0),
    )
    lines = [" ".join("".join(text for _, text in line).split()) for line in trace(blocks)]
    assert lines == [
        "⏎ a 2 2 2",
        "b 2 1 0 fallback 3 avoided",
        "x = 1⏎ · · ·",
        "y · · ·",
        "c · · · 2 avoided",
        "(half a character) 1 1 0 fallback",
    ]


@pytest.mark.parametrize("columns", [47, 60, 80])
def test_the_trace_fits_the_screen_and_its_columns_are_in_line(columns: int) -> None:
    blocks = (
        Block("漢字 = 'a long text, 漢字漢字漢字漢字漢字漢字漢字漢字'", 3, 2, 2, 1, 0),
        Block("漢" * 60 + "x", 9, 0, 0, 0, 0),
    )
    width = trace_width(columns)
    lines = ["".join(text for _, text in line) for line in trace(blocks, width)]
    assert len(lines) > 2
    assert {get_cwidth(line.rpartition("fallback")[0].rstrip() or line) for line in lines} == {width + 25}
    assert all(len("  ") + get_cwidth(line) <= columns for line in lines)
    assert sum(line.count("漢") for line in lines[1:]) == 60
    assert len(trace_head(width)) == width + 25


def test_totals_add_up() -> None:
    totals = Totals()
    results = [turn(BODY, whole_unit=False)[0].completion for _ in range(3)]
    for completion in results:
        totals.add(completion)
    assert totals.tokens == sum(completion.tokens for completion in results) > 0
    for kept in (3, 4):
        totals.add(msgspec.structs.replace(results[0], drafters={"mtp": Drafted(2, 9, 7, kept), "none": Drafted(1)}))
    assert dict(totals.lines())["  mtp"] == "4 passes, 18 tokens proposed, 14 viable, 7 kept"
    assert dict(totals.lines())["  none"] == "2 passes"
    assert dict(totals.lines())["turns"] == "5, 5 with a valid program at the end"


def test_a_cancelled_flag_stays() -> None:
    cancel: Callable[[], str | None] = Cancel()
    assert cancel() is None
    assert isinstance(cancel, Cancel)
    cancel.set()
    assert cancel() == cancel() == "cancelled"
