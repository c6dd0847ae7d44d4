"""Where a completion ends: at its unit, at the right-hand text, at the budget; the file parses whatever was written."""

from __future__ import annotations

import ast
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.eval.fim import parses
from assistant.gap import needle
from assistant.junction import mended
from model.engine import NoDraft
from model.lora import NoAdapter
from tests.assistant.scripted import VALIDATOR, scripted
from validators.contracts import Unit

EXPRESSIONS = ["a", "f(a, b)", "[1, (2, 3)]", "{'k': a}", "a + b", "'#, )'", "(a,\n b)", "a if b else c", "f(x=1)[0]"]


@st.composite
def blocks(draw: st.DrawFn, indent: str = "", depth: int = 0) -> str:
    """A few statements at one indentation."""
    written = ""
    for _ in range(draw(st.integers(1, 3))):
        value = draw(st.sampled_from(EXPRESSIONS))
        simple = st.sampled_from(
            [f"x = {value}", f"y = {value}  # a note", f"{value}; z = {value}", '"""two\nlines"""']
        )
        if depth == 2 or draw(st.integers(0, 2)):
            written += f"{indent}{draw(simple)}\n"
            continue
        inner = draw(blocks(indent + "    ", depth + 1))
        head = draw(st.sampled_from(["def f(a):", "if a:", "for x in a:", "class A:", "async def g():", "while a:"]))
        written += f"{indent}{head}\n{inner}"
        if head == "if a:" and draw(st.booleans()):
            written += f"{indent}else:\n{draw(blocks(indent + '    ', depth + 1))}"
        written += draw(st.sampled_from(["", "\n", "\n\n", f"{indent}# about what follows\n"]))
    return written


@st.composite
def gaps(draw: st.DrawFn) -> tuple[Gap, str]:
    """A gap of a program, and what was taken out of it."""
    text = draw(blocks())
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    return Gap(text[:begin], text[end:]), text[begin:end]


def fill(gap: Gap, script: str, **changes: object) -> Completion:
    return scripted(gap, script, **changes).complete(Request(gap))


def first_end(gap: Gap, text: str, unit: Unit) -> int:
    """The slow twin: characters of `text` after which the validator says that the unit is over; -1 if it never does."""
    state = VALIDATOR.start(gap.prefix, gap.suffix)
    for at, character in enumerate(text, 1):
        verdict = VALIDATOR.check(state, character)
        if not verdict.accepted:
            return -1
        state = verdict.state
        if VALIDATOR.unit_end(state, unit):
            return at
    return -1


@given(gaps(), st.sampled_from(get_args(Unit)), blocks(), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_what_is_written_ends_with_the_unit_and_never_behind_it(
    cut: tuple[Gap, str], unit: Unit, more: str, block: int
) -> None:
    gap = Gap(cut[0].left, "")  # nothing on the right says where to stop
    found = fill(gap, cut[1] + more, unit=unit, block=block, max_tokens=400)
    if found.text:
        assert parses(gap.filled(found.text))
    written = found.text.removesuffix(found.closing)
    over = first_end(gap, written, unit)
    assert over in (-1, len(written)), "something stands behind the unit's end"
    if found.finish_reason == "unit" and found.text and not found.closing:
        script = cut[1] + more
        end = first_end(gap, script, unit)
        if end > 0:  # the validator let the whole script through up to there
            assert script.startswith(written.rstrip("\n"))
            between = script[len(written.rstrip()) : end - 1]
            remarks = [line.strip() for line in between.split("\n")]
            whole = found.text.rstrip() and all(not line or line.startswith("#") for line in remarks[:-1])
            assert whole or len(written) < end


@given(gaps(), st.sampled_from(get_args(Unit)), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_unit_parses_with_what_stands_right_of_it(cut: tuple[Gap, str], unit: Unit, block: int) -> None:
    gap, middle = cut
    found = fill(gap, middle + gap.suffix, unit=unit, block=block, max_tokens=400)
    if found.text:
        assert found.valid
        assert parses(gap.filled(found.text))
    assert first_end(gap, found.text.removesuffix(found.closing), unit) in (-1, len(found.text))


@given(gaps(), st.sampled_from(["none", *get_args(Unit)]), st.integers(2, 6), st.integers(5, 200))
@settings(max_examples=150, deadline=None)
def test_where_a_text_ends_does_not_depend_on_how_much_comes_at_a_time(
    cut: tuple[Gap, str], unit: str, block: int, budget: int
) -> None:
    gap, middle = cut
    one, more = (
        fill(gap, middle + gap.suffix, unit=unit, block=size, max_tokens=budget, **changes)
        for size, changes in ((1, {"draft": "none"}), (block, {}))
    )
    assert (one.text, one.closing, one.finish_reason) == (more.text, more.closing, more.finish_reason)
    assert more.passes <= one.passes


@given(gaps())
@settings(max_examples=150, deadline=None)
def test_the_suffix_is_never_repeated_in_what_is_kept(cut: tuple[Gap, str]) -> None:
    gap, middle = cut
    found = fill(gap, middle + gap.suffix, max_tokens=400)
    if found.text:
        assert parses(gap.filled(found.text))
    sign = needle(gap.suffix)
    at = found.text.find(sign) if sign else -1
    while at >= 0:
        assert not parses(gap.filled(found.text[:at])), "a place to stop was passed by"
        at = found.text.find(sign, at + 1)
    if found.finish_reason == "closed" and middle.strip() and sign not in middle:
        assert middle.startswith(found.text.rstrip("\n")), "more than the middle was kept"


@given(gaps(), st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_a_budget_that_runs_out_leaves_a_file_that_parses(cut: tuple[Gap, str], budget: int) -> None:
    gap, middle = cut
    found = fill(gap, middle, max_tokens=budget)
    assert found.tokens <= budget
    if found.text:
        assert parses(gap.filled(found.text))
        assert found.text.endswith(found.closing)
        # But for line ends that belong before what stands to the right.
        assert len(found.text.rstrip("\n").encode()) <= budget, "the closing was not counted"
    else:
        assert found.reason


@pytest.mark.parametrize(
    ("left", "right", "script", "unit", "expected"),
    [
        ("x = f(", ")\n", "a, b)\n", "expression", "a"),
        ("x = ", "\n", "a + 1  # why\ny = 2\n", "expression", "a + 1"),
        ("x = ", "\n", "'a # b, c' + d\ny\n", "expression", "'a # b, c' + d"),
        ("x = ", "\n", "b = c\n", "expression", "b"),
        ("x = ", "\nz = 1\n", "(1,\n2)\ny = 3\n", "statement", "(1,\n2)"),
        ("x = ", "", "1  # one\ny = 3\n", "line", "1  # one"),
        ("", "b = 1\n", "a = 2\nc = 3\n", "line", "a = 2\n"),
        ("", "", "a = 2; c = 3\n", "statement", "a = 2"),
        ("", "", "if a:\n    b\nelsewhere = 1\n", "statement", "if a:\n    b"),
        (
            "def f():\n    ",
            "\n",
            "x = 1\n    return x\n\n\n# next\ndef g():\n    pass\n",
            "block",
            "x = 1\n    return x",
        ),
        (
            "",
            "",
            'def f(a):\n    """Two\n\n    lines."""\n    return a\n\n\nprint(1)\n',
            "function",
            'def f(a):\n    """Two\n\n    lines."""\n    return a',
        ),
    ],
)
def test_units_end_exactly(left: str, right: str, script: str, unit: str, expected: str) -> None:
    found = fill(Gap(left, right), script, unit=unit)
    assert (found.text, found.finish_reason) == (expected, "unit")
    assert found.valid
    assert found.tokens <= len(script)


@pytest.mark.parametrize(
    ("left", "right", "script", "budget", "text", "closing"),
    [
        ("x = f(", "\n", "a, [bcd", 7, "a, [b])", "])"),
        ("x = '", "\n", "abc", 3, "ab'", "'"),
        ("x = 1\n", "", "y = (2,\n3, 4", 9, "y = (2,\n)", ")"),
        ("x = 1\n", "", "while a: ", 13, "while a: pass", "pass"),
        ("x = 1\n", "", "y = 2\nz = ", 10, "y = 2", ""),  # what would close it would have to be made up
    ],
)
def test_what_the_budget_leaves_open_is_closed(
    left: str, right: str, script: str, budget: int, text: str, closing: str
) -> None:
    found = fill(Gap(left, right), script + " " * 40, max_tokens=budget)
    assert (found.text, found.closing, found.finish_reason) == (text, closing, "length")
    assert found.valid


def test_a_long_closing_takes_as_many_tokens_back_as_it_needs() -> None:
    found = fill(Gap("x = ", "\n"), "(" * 40, max_tokens=40)
    assert (found.text, found.closing) == ("(" * 20 + ")" * 20, ")" * 20)
    assert found.valid


def test_brackets_that_nothing_closes_in_time_leave_a_file_that_parses() -> None:
    """The model opens brackets to the end of its budget: what closes half of them is what there is room for."""
    gap = Gap("x = [a,", "\ny = 1\n")
    found = fill(gap, " f" + "(" * 300, max_tokens=200)
    assert found.valid and found.finish_reason == "length"
    assert len(found.text) <= 200 and found.text.startswith(" f" + "(" * 80)
    assert ast.parse(gap.filled(found.text))


def test_blanks_are_kept_where_the_file_needs_them() -> None:
    needed = fill(Gap("def f():\n", "return 1\n"), "    return 1\n", max_tokens=40)
    assert needed.valid and needed.text == "    "
    assert fill(Gap("x = 1\n", "y = 2\n"), "\n\ny = 2\n", max_tokens=40).text == ""


@pytest.mark.parametrize(
    ("left", "right", "script", "text", "ended_text"),
    [
        ("x = ", "\ny = 2\n", "f(a)\nz = 3\nw = 4\n", "f(a)", "f(a)"),
        ("x = ", "\ny = 2\n", "f(\n    a)\nz = 3\nw = 4\n", *["f(\n    a)\nz = 3\nw = 4\n"] * 2),
        ("", "\ny = 2\n", "x = f(a)\nz = 3\nw = 4\n", "x = f(a)\n", "x = f(a)\nz = 3\nw = 4\n"),
        ("x = ", "+ 100\ny = 2\n", "f(a)\nz = f(b) + 100\nw =", "f(a)\nz = f(b) ", "f(a)\nz = f(b) + 100\nw ="),
    ],
)
def test_of_a_model_that_runs_on_the_line_that_was_begun(
    left: str, right: str, script: str, text: str, ended_text: str
) -> None:
    gap, budget = Gap(left, right), len(script)
    untaught = scripted(gap, script + "v = 5\n", adapter=NoAdapter(), max_tokens=budget).complete(Request(gap))
    assert (untaught.text, untaught.finish_reason) == (text, "length")
    taught = scripted(gap, script + "v = 5\n", max_tokens=budget).complete(Request(gap))
    assert taught.text.rstrip() == script.rstrip()
    # Where a model ends of itself it is believed, but for lines behind the one that was begun.
    ended = scripted(gap, script, adapter=NoAdapter(), max_tokens=budget + 9).complete(Request(gap))
    assert (ended.text, ended.finish_reason) == (ended_text, "end")


@pytest.mark.parametrize(
    ("left", "right", "script", "text"),
    [
        # Up to a line that is as far indented as the next one, with its blank lines.
        ("", "y = 2\n", "x = f(a)\n\n\nz = 3\nw = 4\n", "x = f(a)\n\n\n"),
        ("", "\n\ny = 2\n", "x = f(a)\n\n\nz = 3\nw = 4\n", "x = f(a)\n"),
        ("def f():\n", "    return a\n", "    if a:\n        b\n\n    c\nd\n", "    if a:\n        b\n\n"),
        ("def f():\n", "\treturn a\n", "\tif a:\n\t\tb\n\tc\n\td\n", "\tif a:\n\t\tb\n"),
        ("if a:\r\n", "    b\r\n", "    x = 1\n    y = 2\n    z = 3\n", "    x = 1\n"),
        ("", "    # a note\ny = 2\n", "if a:\n    b\n    c\nd\n", "if a:\n    b\n"),
        # Before the longest repetition of what stands to the right, were it only its beginning.
        ("x = f(", ", key=len)\n", "a, b(c, key=d), key=len(", "a, b(c, key=d)"),
        (
            "x = [\n",
            "    one,\n    two,\n]\n",
            "    a,\n    one,\n    b,\n    one,\n    two",
            "    a,\n    one,\n    b,\n",
        ),
        ("", "\n\ndef f(a):\n    pass\n", "x = 1\n\n\ndef f(b):\n    return b\n", "x = 1\n"),
        # Where neither is to be had, what fits of it.
        ("x = f(", ")\n", "a, b\n, c", "a, b\n, c"),
        ("try:\n", "except E:\n    pass\n", "    a\nfinally:\n    b\n", "    a\n"),
        # Broken files.
        ("x = = 1\n", "y = 2\n", "a = 1\nb = 2\nc", "a = 1\n"),
        ("", "y = 2\nx = = 1\n", "a = 1\nb = 2\nc", "a = 1\n"),
    ],
)
def test_of_a_model_that_runs_on_what_goes_before_the_suffix(left: str, right: str, script: str, text: str) -> None:
    gap = Gap(left, right)
    found = scripted(gap, script + "v = 5\n", adapter=NoAdapter(), max_tokens=len(script)).complete(Request(gap))
    assert (found.text, found.finish_reason) == (text, "length")
    assert found.valid or found.problems


@given(gaps(), blocks(), st.integers(1, 80), st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_a_model_that_runs_on_leaves_parses_and_is_a_beginning(
    cut: tuple[Gap, str], more: str, budget: int, repeats: bool
) -> None:
    gap, middle = cut
    script = middle + (gap.suffix if repeats else "") + more
    chunks = list(scripted(gap, script, adapter=NoAdapter(), max_tokens=budget).stream(Request(gap)))
    found = chunks[-1].completion
    assert found
    if found.text:
        assert parses(gap.filled(found.text))
    written = "".join(chunk.text for chunk in chunks)
    assert written.startswith(found.text.removesuffix(found.closing).rstrip("\n"))


BEFORE = "x = 1\n\n\n"
AFTER = "def after(values):\n    return values\n"


@pytest.mark.parametrize(
    ("left", "right", "script", "text"),
    [
        (BEFORE, AFTER, "y = 2\n\n", "y = 2\n\n\n"),
        (BEFORE, AFTER, "y = 2\n", "y = 2\n"),  # may stand close to it on purpose
        (BEFORE, AFTER, "y = 2\n\n\n\n\n", "y = 2\n\n\n"),
        (BEFORE, "\n" + AFTER, "y = 2", "y = 2\n\n"),
        (BEFORE.replace("\n", "\r\n"), ("\n" + AFTER).replace("\n", "\r\n"), "y = 2", "y = 2\n\n"),
        ("y = ", "\n\n" + AFTER, "2", "2"),
        ("y = ", "\n\n\n\n" + AFTER, "2", "2"),
        ("y = ", "\n\n\n" + AFTER, "2\n", "2"),
        (BEFORE, "\n" + AFTER, "@cache\n", "@cache\n"),
        (BEFORE, AFTER, "# About it.\n\n", "# About it.\n\n"),
        (BEFORE, "\ny = 2\n", "z = 3", "z = 3\n"),
        (BEFORE + "if x:\n", "\n\ty = 2\n", "\tz = 3", "\tz = 3\n"),
        (BEFORE, "\n\n", "z = 3", "z = 3"),
        (BEFORE, "", "z = 3\n\n\n\n\n", "z = 3\n\n\n\n\n"),
        # Line ends are a part of a string.
        ('"""One\n', '\ndef"""\n', "two\n\n\n\n", "two\n\n\n\n"),
        ('"""One\n', '\ndef"""\n', "two", "two"),
        ('x = f"""One\n', '\ndef"""\n', "{two}", "{two}"),
        (BEFORE, 'def"""\n', '"""two\n\n', '"""two\n\n'),
        (BEFORE, "\n" + AFTER, '"""two"""', '"""two"""\n\n'),
        # Broken files.
        ("x = = 1\n", AFTER, "y = 2\n\n", "y = 2\n\n\n"),
        ("", "\n" + AFTER + "x = = 1\n", "y = 2", "y = 2\n\n"),
    ],
)
def test_line_ends_fit_what_stands_to_the_right(left: str, right: str, script: str, text: str) -> None:
    gap = Gap(left, right)
    found = fill(gap, script)
    assert (found.text, found.finish_reason, found.closing) == (text, "end", "")
    assert found.valid or found.problems
    assert found.tokens == len(script), "no token was spent on them"


def test_line_ends_behind_a_closing_are_a_part_of_it() -> None:
    gap = Gap("", "\n" + AFTER)
    found = fill(gap, "x = (1, 2" + " " * 40, max_tokens=9)
    assert (found.text, found.closing, found.finish_reason) == ("x = (1, )\n\n", ")\n\n", "length")
    assert found.valid


def test_a_unit_keeps_its_own_line_end() -> None:
    gap = Gap(BEFORE, "\n" + AFTER)
    assert fill(gap, "y = 2\nz = 3\n", unit="statement").text == "y = 2"


@given(gaps())
@settings(max_examples=150, deadline=None)
def test_no_line_end_is_left_to_mend(cut: tuple[Gap, str]) -> None:
    gap, middle = cut
    found = fill(gap, middle, max_tokens=400)
    better = mended(gap.prefix, found.text, gap.suffix)
    if better != found.text:  # then the line ends mean something
        assert tree(gap.filled(better)) != tree(gap.filled(found.text))


def tree(text: str) -> str | None:
    """What Python reads; None if it does not."""
    return ast.dump(ast.parse(text)) if parses(text) else None


def test_blank_lines_that_the_suffix_has_too_are_not_written_twice() -> None:
    suffix = "\n\n\ndef after(values):\n    return values\n"
    found = fill(Gap("x = ", suffix), f"1{suffix}")
    assert (found.text, found.finish_reason) == ("1", "closed")
    apart = fill(Gap("x = ", "\ndef after(values):\n    return values\n"), f"1{suffix}")
    assert (apart.text, apart.finish_reason) == ("1\n\n", "closed"), "the model wanted them, the suffix lacks them"


def test_what_is_forced_takes_no_pass() -> None:
    gap, script = Gap("x = a if b e", "\n"), "lse c"
    found = scripted(gap, script, drafter=NoDraft()).complete(Request(gap))
    assert (found.text, found.tokens, found.forced) == (script, 5, 3)
    assert found.passes == 3, "one for what follows 'else', one for the name, one for the end"
    assert found.drafters["forced"].kept == 3


@pytest.mark.parametrize(
    ("left", "right", "script", "text"),
    [
        # A comment without its line end would swallow the first line of what is whole.
        ("", "def f(x):\n    return x\n\ndef g(x):\n", "# a note", "# a not\n"),
        ("def f(x:\n    return x\n\ndef g(x):\n    ", "\n", "return x\n\ny = x +", "return x\n"),
        ("x = ", "\n= = 3\n", "f(a, [b", "f(a, )"),
        ("x = = 3\ny = (", ")\nz = 1\n", "a, b)\nz = 1", "a, b"),
        # The statement that the gap is in is broken itself: nothing joins, and nothing is made up.
        ("try:\n    ", "\n    = = 3\nexcept E:\n    pass\n", "b" + " " * 20, "b" + " " * 20),
    ],
)
def test_a_broken_file_gets_no_further_broken_place(left: str, right: str, script: str, text: str) -> None:
    gap = Gap(left, right)
    found = fill(gap, script, max_tokens=len(script))
    assert found.text == text
    assert found.problems
    assert places(gap.filled(found.text)) <= places(gap.filled(""))


def test_a_model_may_end_where_no_text_joins_what_is_broken() -> None:
    gap = Gap("try:\n    ", "\n    = = 3\nexcept E:\n    pass\n")
    found = fill(gap, "b", max_tokens=200)
    assert (found.text, found.finish_reason) == ("b", "end")
    assert found.tokens == 1, "not the whole budget"


def places(text: str) -> int:
    """Broken places of a whole text."""
    return len(VALIDATOR.problems(VALIDATOR.start(text)))
