"""CPython's limits, deep nesting and long lines: an answer every time, for work in proportion to the text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from types import FrameType
from typing import SupportsIndex

import pytest

from assistant.bench.snippets import VERSIONS, Version
from tests.validators.oracle import RUNNING, oracles
from validators import PythonValidator, ReferenceValidator
from validators.characters import characters


@cache
def validator_of(version: Version = RUNNING) -> PythonValidator:
    return PythonValidator(version)


def blocks(depth: int) -> str:
    return "".join(" " * level + "if x:\n" for level in range(depth)) + " " * depth + "y\n"


LIMITS = {
    "199 brackets": "(" * 199 + ")" * 199,
    "200 brackets": "(" * 200 + ")" * 200,
    "201 brackets": "(" * 201 + ")" * 201,
    "200 mixed brackets": "([{" * 66 + "[(",
    "201 mixed brackets": "([{" * 67,
    "98 blocks": blocks(98),
    "99 blocks": blocks(99),
    "100 blocks": blocks(100),
    "101 blocks": blocks(101),
    "10 000 open brackets": "(" * 10_000,
}
LONG: dict[str, Callable[[int], str]] = {
    "string": lambda n: "x = '" + "a" * n,
    "operands": lambda n: "x = " + "a + " * (n // 4),
    "elements": lambda n: "x = [" + "1, " * (n // 3),
    "name": lambda n: "a" * n,
    "digits": lambda n: "x = " + "1" * n,
    "comment": lambda n: "#" * n,
    "blank lines": lambda n: "\n" * n,
    "blanks": lambda n: " " * n,
    "joined lines": lambda n: "\\\n" * (n // 2),
    "minus signs": lambda n: "x = " + "-" * n,
    "attributes": lambda n: "x = a" + ".b" * (n // 2),
    "targets": lambda n: "a = " * (n // 4),
    "elif": lambda n: "if a: b\n" + "elif a: b\n" * (n // 10),
    "statements": lambda n: "a;" * (n // 2),
    "decorators": lambda n: "@a\n" * (n // 3),
    "adjacent strings": lambda n: "x = " + "'a' " * (n // 4),
    "docstring": lambda n: '"""' + "a\n" * (n // 2),
    "fields": lambda n: "f'" + "{a}" * (n // 3),
}
REFUSED: dict[str, Callable[[int], str]] = {
    "a name with a sign in it": lambda n: "a" * n + "\u2014",
    "letters beyond ASCII with a sign in them": lambda n: "\xe9" * n + "\u2014",
    "letters behind a number": lambda n: "x = 1" + "z" * n,
    "keywords behind a number": lambda n: "x = 1" + "or" * (n // 2),
    "a digit behind zeros": lambda n: "0" * n + "9 ",
    "letters beyond ASCII in bytes": lambda n: "b'" + "a" * n + "\xe9",
    "closing brackets": lambda n: "x = " + ")" * n,
}
"""Texts with a wrong character at one end."""


class Counted(str):
    """A text that counts the characters that are copied out of it: calls alone do not tell a long copy from a short."""

    copied = 0

    def __getitem__(self, place: SupportsIndex | slice) -> str:
        found = super().__getitem__(place)
        Counted.copied += len(found)
        return found

    def strip(self, characters: str | None = None) -> str:
        Counted.copied += len(self)
        return super().strip(characters)


def calls(work: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's, that `work` makes: a measure of work that no other process disturbs."""
    count = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("version", list(oracles()), ids=str)
def test_limits_are_those_of_the_interpreter(version: Version, name: str) -> None:
    """On an interpreter that can say; the old parsers run out of stack before they count 200 brackets."""
    oracle, text = oracles()[version], LIMITS[name]
    validator = validator_of(version)
    accepted = validator.check(validator.start(""), text).accepted
    if oracle.exact:
        far = oracle.viable(text).accepted
        assert accepted <= far
        assert accepted == far or oracle.ending(text[: accepted + 1]) is None
    else:
        newest = validator_of(VERSIONS[-1])
        assert accepted == newest.check(newest.start(""), text).accepted


@pytest.mark.parametrize("name", LONG)
def test_work_grows_with_the_text_and_no_faster(name: str) -> None:
    """Counted in calls; the texts are long enough for what is done once to be small beside it."""
    counts = []
    for length in (6_000, 12_000):
        text = LONG[name](length)
        validator = validator_of()
        begin = validator.start("")
        counts.append(calls(partial(validator.check, begin, text)))
        assert validator.check(begin, text).accepted == len(text)
    assert counts[1] <= 2.2 * counts[0]


@pytest.mark.parametrize("name", [*LONG, *REFUSED])
@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]], ids=str)
def test_characters_are_copied_a_few_times_each(name: str, version: Version) -> None:
    validator = validator_of(version)
    text = (LONG | REFUSED)[name](20_000)
    Counted.copied = 0
    validator.check(validator.start(""), Counted(text))
    assert Counted.copied <= 5 * len(text)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_costs_no_more_than_its_length(name: str) -> None:
    counts = []
    for length in (6_000, 12_000):
        text = REFUSED[name](length)
        validator = validator_of()
        counts.append(calls(partial(validator.check, validator.start(""), text)))
        assert validator.check(validator.start(""), text).accepted < len(text)
    assert counts[1] <= 2.2 * counts[0]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_the_beginning_of_a_name_is_its_longest(version: Version) -> None:
    known = characters(version)
    for word in ("a", "a1", "1a", "é€x", "ａ\u203fb c", "\u08be", "a\u08beb", "x\U00010d4a-", "", "·a", "a·"):
        slow = max(end for end in range(len(word) + 1) if not end or known.identifier(word[:end]))
        assert known.beginning(word) == slow


@pytest.mark.parametrize("name", LONG)
def test_long_texts_can_be_closed(name: str) -> None:
    validator = validator_of()
    state = validator.start(LONG[name](5_000))
    ending = validator.closing(state)
    assert ending is not None
    assert validator.complete(validator.check(state, ending).state)


def test_a_right_hand_text_may_be_anything() -> None:
    for right in (
        ")" * 100_000,
        "(" * 100_000,
        "'''" + "a\n" * 20_000,
        "\\\n" * 20_000,
        "}]" * 1_000,
        "\0",
        "    x\n" * 5_000,
    ):
        validator = validator_of()
        state = validator.start("x = ", right)
        verdict = validator.check(state, "(1, 2)")
        assert verdict.accepted == 6
        assert validator.complete(verdict.state) in (True, False)


def test_keyword_arguments_are_kept_apart_up_to_a_limit() -> None:
    """3.8 alone refuses those given twice while it parses; keeping the names of any number would cost their square."""
    validator = validator_of((3, 8))
    for count, accepted in ((400, False), (4_000, True)):
        text = "f(" + "".join(f"a{number}=0, " for number in range(count)) + f"a{count - 1}=1)\n"
        verdict = validator.check(validator.start(""), text)
        assert (verdict.accepted == len(text)) == accepted
        assert len(verdict.state.line.frame.keywords) <= 500


def test_a_megabyte_on_one_line() -> None:
    text = "x = [" + "a, " * 333_333 + "]\n"
    validator = validator_of()
    verdict = validator.check(validator.start(""), text)
    assert verdict.accepted == len(text) and validator.complete(verdict.state)


def test_the_reference_ends_in_an_answer_too() -> None:
    validator = ReferenceValidator()
    for name in LIMITS:
        assert validator.check(validator.start(""), LIMITS[name]).accepted > 0
