"""The validator by hand-made examples: what is refused where, states, endings, the text on the right, units."""

from __future__ import annotations

import ast
import random

import pytest

from validators import PythonValidator, ReferenceValidator
from validators.contracts import Unit

VALIDATOR = PythonValidator((3, 12))
PROGRAM = '''\
"""Says\\N{EM DASH}nothing."""
from __future__ import annotations

import os.path as p, sys


@decorated(by=1, *args, **kwargs)
async def f[T: int](a, /, b: list[T] = [1, 0x_f, 1e-5j], *, c=lambda x, *y: (yield)) -> None:
    async with a as (b, c), d: return {**a, 'k': [*b, -c]}
    match a, b:
        case [1 | -2.5 + 3j, {"x": y, **rest}, C(z, w=_) as v] if a := b:
            x: int = f"{a!r:>{b}} {{}} {c = }" rf'{"\\d"}'
        case _:
            for i, *j in *a, b:
                pass
            else:
                del x[1:2, ...], (y)
    try:
        raise E from None
    except* (A, B) as e:
        global g; g **= 1 if a else not b
    finally:
        assert a is not b, \\
            "continued"
type X[*Ts] = tuple[*Ts]
'''


def test_the_program_is_accepted_in_any_portions() -> None:
    whole = VALIDATOR.start(PROGRAM)
    assert VALIDATOR.problems(whole) == () and VALIDATOR.complete(whole)
    for seed in range(20):
        rng = random.Random(seed)
        state, at = VALIDATOR.start(""), 0
        while at < len(PROGRAM):
            size = rng.choice([1, 1, 2, 3, 7, 40])
            verdict = VALIDATOR.check(state, PROGRAM[at : at + size])
            assert verdict.accepted == len(PROGRAM[at : at + size]), (seed, at, verdict.reason)
            state, at = verdict.state, at + size
            assert state.place == VALIDATOR.start(PROGRAM[:at]).place
    assert VALIDATOR.check(VALIDATOR.start(""), PROGRAM).state is state


def test_each_line_end_makes_its_own_program_of_every_prefix() -> None:
    for end in ("\r\n", "\r"):
        text = PROGRAM.replace("\n", end)
        assert VALIDATOR.complete(VALIDATOR.start(text))
        for at in range(0, len(text), 3):
            state = VALIDATOR.start(text[:at])
            assert not state.problems
            ending = VALIDATOR.closing(state)
            assert ending is not None and VALIDATOR.complete(VALIDATOR.check(state, ending).state)


REFUSED = {  # text up to the first impossible character, that character
    "f(..": "x",
    "x.": ".",
    "from ..": "1",
    "x i": " ", "x ": "x", "f() =": " ", "x + 1": ":", "(a, b)": ":", "del f()": "\n", "with a as f()": ":",
    "for f()": ":", "(x for x in y": ",", "f(a=1, b": ")", "f(**a, *": "b", "def f(a=1, b": ")", "def f(*": ")",
    "'a' ": "b", "b'a' ": "'", "'\\x4": "g", "0777": " ", "1__": None, "1_": "_", "0x": "g", "if x:\n": "y",
    "if x:\n  y\n": " z", "try:\n  x\n": "y", "@a\n": "x", "match x:\n  ": "y", "f'{": "}", "f'{a ": "b", "f'{a!": "x",
    "(": "]", "x = ": ")", "print ": "'", "x = 1 +": "\n", "async ": "x", "from x import a,": "\n",
    "import a.b as c": ".",
    "lambda x=": ":", "case ": "x", "x = (yield": "=", "{**a": ":", "{a: b, c": ",", "[*a ": "f", "a if b": "\n",
    "class A(x ": "f", "\\": " ", "x = '": "\n", "x = f'{a": "'b", "not ": "*", "x[": "]", "yield = ": None,
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_refused_at_the_first_character_that_nothing_can_follow(text: str) -> None:
    state = VALIDATOR.start("")
    wrong = REFUSED[text]
    if wrong is None:  # somewhere in the text itself
        assert VALIDATOR.check(state, text).accepted < len(text)
        return
    verdict = VALIDATOR.check(state, text + wrong)
    assert verdict.accepted == len(text) + len(wrong) - 1 or verdict.accepted == len(text), verdict
    assert verdict.reason
    assert verdict.state is VALIDATOR.check(state, (text + wrong)[: verdict.accepted]).state
    ending = VALIDATOR.closing(verdict.state)
    assert ending is not None
    ast.parse((text + wrong)[: verdict.accepted] + ending)


def test_checking_has_no_side_effect() -> None:
    state = VALIDATOR.start("def f(a, ")
    first = VALIDATOR.check(state, "b):\n    return")
    VALIDATOR.check(state, ")")
    VALIDATOR.check(first.state, " a\nx")
    assert VALIDATOR.check(state, "b):\n    return") == first


def test_versions_and_levels_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match=r"3\.7|\(3, 7\)"):
        PythonValidator((3, 7))
    with pytest.raises(ValueError, match="types"):
        PythonValidator((3, 12), level="types")


@pytest.mark.parametrize(
    ("left", "right", "middle"),
    [
        ("x = foo(a, ", ")\ny = 2\n", "b"),
        ("def f():\n    ", "\n\ndef g():\n    pass\n", "return 1"),
        ("x = '", "'\ny", "abc"),
        ("if a:\n    ", "\nelse:\n    c\n", "b"),
        ("'''doc ", "more'''\nx\n", "and "),
        ("f'{a", "}'\n", " + b"),
        ("x = (a,\n", "\ndef g():\n    pass\n", "b)"),
        ("", ")]}\ny", "{[("),
        ("try:\n  x\n", "except A:\n  pass\n", "  y\n"),
        ("x = ", "don't do this\"\nx = 1\n", '"'),
        ("", "ef f():\n    pass\n", "d"),
        ("x = [", "\n    2,\n]\n", "1,"),
        ("# c", "omment\n", ""),
        ("a = 1\r", "\nb", ""),
    ],
)
def test_the_right_hand_text_says_where_the_gap_closes(left: str, right: str, middle: str) -> None:
    start = VALIDATOR.start(left, right)
    assert VALIDATOR.problems(start) == ()
    for end in range(len(middle) + 1):
        verdict = VALIDATOR.check(start, middle[:end])
        assert verdict.accepted == end
        assert VALIDATOR.complete(verdict.state) == _parses(left + middle[:end] + right)
        ending = VALIDATOR.closing(verdict.state)
        assert ending is not None and _parses(left + middle[:end] + ending + right)
    assert VALIDATOR.complete(VALIDATOR.check(start, middle).state)


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize(
    ("left", "right", "kept", "line"),
    [
        ("x", "\ny z\nw\n", "\n", 2),
        ("def f():\n    x", "\n    y\n  z\n", "\n    y\n  z\n", None),
        ("x = (", ")\ndef f(:\n    pass\n", ")\n", 2),
        ("", "\n  a\n b\n    c\n", "\n  a\n b\n", 4),
        ("x", "\ny\0\nz", "\n", 2),
        ("x", "\ntry:\n    y\nz", "\n", 4),
    ],
)
def test_a_broken_right_hand_text_is_used_as_far_as_it_goes(left: str, right: str, kept: str, line: int | None) -> None:
    state = VALIDATOR.start(left, right)
    assert state.right.text == kept
    assert [p.side for p in state.problems] == ["right"] * (line is not None)


@pytest.mark.parametrize(
    ("left", "places", "goes_on"),
    [
        ("x = = 1\ny = 2\nz", [(1, 5)], " = 3\n"),
        ("def f():\n    x = (\n    y = 2\n    return y\nz", [(3, 8)], "()\n"),
        ("if x:\ny\nw", [(2, 1)], "\n"),
        ("try:\n  x\ny = 1\n", [(3, 1)], "z"),
        ("class A:\n    def f(self):\n        x y\n    def g(self):\n        ret", [(3, 11)], "urn self\n"),
        ("a b", [(1, 3)], " anything )( at all\nx = 1"),
        ("\ufeffx", [], " = 1"),
        ("x\0\ny", [(1, 2)], " = 1"),
    ],
)
def test_broken_statements_on_the_left_are_stepped_over(left: str, places: list[tuple[int, int]], goes_on: str) -> None:
    state = VALIDATOR.start(left)
    assert [(p.line, p.column) for p in VALIDATOR.problems(state)] == places
    verdict = VALIDATOR.check(state, goes_on)
    assert verdict.accepted == len(goes_on)
    assert VALIDATOR.complete(verdict.state)
    assert VALIDATOR.check(verdict.state, "\nx y").reason is not None


def test_a_file_that_begins_right_of_the_cursor_may_have_a_byte_order_mark() -> None:
    right = "\ufeffx = 1\ny = )\n"
    for validator in (VALIDATOR, ReferenceValidator()):
        state = validator.start("", right[:7])
        assert validator.problems(state) == () and validator.complete(state) and validator.closing(state) == ""
        assert validator.complete(validator.check(state, "y\n").state), "it goes behind the mark"
        assert not validator.complete(validator.check(state, "y ").state)
        [problem] = validator.problems(validator.start("", right))
        assert problem.line == 2 and right[problem.offset :].startswith(("y", ")"))
    [problem] = VALIDATOR.problems(VALIDATOR.start("", "\ufeffx\0\n"))
    assert (problem.offset, problem.line, problem.column) == (1, 1, 2)
    assert VALIDATOR.start("", right).place == VALIDATOR.start("\ufeff", right[1:]).place
    assert not VALIDATOR.complete(VALIDATOR.start("\ufeff", right)), "a file has one mark"
    assert not VALIDATOR.complete(VALIDATOR.start("x", "\ufeff\n"))


UNITS: list[tuple[str, str, Unit, int]] = [  # left, text, unit, characters after which it is closed
    ("x = f(a, ", "b, c)", "expression", 2),
    ("x = [", "1 + (2, 3)]", "expression", 11),
    ("x = ", "'a, b' + c\n", "expression", 11),
    ("x = ", "1\ny", "line", 2),
    ("x = ", "(1,\n2)\n", "line", 4),
    ("x = ", "(1,\n2)\n", "statement", 7),
    ("", "a; b", "statement", 2),
    ("if a:\n", "    b\nelse:\n    c\nd", "block", 7),
    ("", "if a:\n    b\nelse:\n    c\nd", "statement", 25),
    ("def f():\n    ", "return 1\n\n\nx", "block", 12),
    ("class A:\n    def f(self):\n        ", "if a:\n            b\n    def", "function", 25),
    ("", "def f():\n    x\n\ng", "function", 17),
]


@pytest.mark.parametrize(("left", "text", "unit", "end"), UNITS)
def test_where_units_end(left: str, text: str, unit: Unit, end: int) -> None:
    state = VALIDATOR.start(left)
    ends = []
    for character in text:
        state = VALIDATOR.check(state, character).state
        ends.append(VALIDATOR.unit_end(state, unit))
    assert ends == [at >= end for at in range(1, len(text) + 1)]
    assert VALIDATOR.unit_end(VALIDATOR.check(VALIDATOR.start(left), text).state, unit)


def test_no_character_is_read_much_more_than_once() -> None:
    validator = PythonValidator((3, 12))
    text = PROGRAM * 40
    state = validator.start("")
    for at in range(0, len(text), 4):
        state = validator.check(state, text[at : at + 4]).state
    read = validator.scanner.characters
    assert len(text) <= read + validator.scanner.characters_known <= 2.5 * len(text)
    assert validator.scanner.characters_known > 0.5 * len(text), "repeated text is to come from the memos"
