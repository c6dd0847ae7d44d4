"""Where a gap is closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.gap import MATCH, SHARED, cuts, needle, neighbours, repetitions, stops, unrepeated

code = st.text(st.sampled_from("ab() \n"), max_size=25)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("", ""),
        ("\n\n  \n", ""),
        (")\n", ")"),
        ("\n\n\ndef following(x):\n    return x\n", "\ndef following(x):"),
        ("\nx\ny\nlong_enough_name = 1\n", "\nx\ny\nlong_enoug"),
        ("\nif x:\n    y = compute(x)\n", "\nif x:\n    y = comput"),
        ("    return a  \n", "    return a"),
        ("a" * 1000, "a" * 1000),
    ],
)
def test_the_beginning_of_the_suffix_gives_repetition_away(suffix: str, expected: str) -> None:
    assert needle(suffix) == expected


@given(code)
def test_a_needle_is_what_the_suffix_begins_with_but_for_blank_lines(suffix: str) -> None:
    found = needle(suffix)
    assert bool(found) == bool(suffix.strip())
    body = suffix.lstrip("\n")
    assert body.startswith(found.removeprefix("\n"))
    assert found.startswith("\n") == (suffix.startswith("\n") and bool(found))
    if found:
        shown = len("".join(found.split()))
        assert shown >= min(MATCH, len("".join(body.split()))), "too little would be taken for repetition"
        assert found.rstrip() == found


@given(code, code)
def test_whole_lines_and_any_beginning_of_the_first_may_be_kept(text: str, suffix: str) -> None:
    found = list(cuts(text, suffix))
    assert all(0 <= cut <= len(text) for cut in found)
    first_line = text.split("\n", 1)[0]
    assert set(range(1, len(first_line) + 1)) <= set(found)
    assert {i for i, character in enumerate(text) if character == "\n"} <= set(found)


@given(code, st.text(st.sampled_from("\n a"), max_size=8))
def test_line_ends_that_the_suffix_has_are_not_kept_twice(text: str, suffix: str) -> None:
    """Written again is all from the last line end before the suffix's first line on."""
    kept = unrepeated(text, suffix)
    assert text.startswith(kept)
    assert not text[len(kept) :].strip("\n")
    blank = len(suffix) - len(suffix.lstrip("\n"))
    ends = len(text) - len(text.rstrip("\n"))
    assert len(text) - len(kept) == (min(ends, blank - 1) if blank else 0)


def repetition(prefix: str, text: str, suffix: str) -> int | None:
    """The slow twin: where to cut before the longest repetition of the suffix, by trying every place."""
    lines = not prefix or prefix.endswith("\n")
    places = [i for i in range(1, len(text)) if not lines or text[i - 1] == "\n"]

    def shared(at: int) -> tuple[int, int, int]:
        left, right = (text[at:].lstrip("\n"), suffix.lstrip("\n")) if lines else (text[at:], suffix)
        return len("".join(common(left, right).split())), len(common(text[at:], suffix)), -at

    best = max(places, key=shared, default=None)
    return best if best is not None and shared(best)[0] >= SHARED else None


def common(one: str, other: str) -> str:
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return one[:count]


@given(
    st.sampled_from(["", "a\n", "a"]), code, st.text(st.sampled_from("ab \n"), max_size=12), code, st.integers(0, 12)
)
def test_the_longest_repetition_is_found_as_by_trying_every_place(
    prefix: str, before: str, suffix: str, behind: str, count: int
) -> None:
    text = before + suffix[:count] + behind
    found = repetitions(prefix, text, suffix)
    assert next(iter(found), None) == repetition(prefix, text, suffix)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("prefix", "text", "suffix", "expected"),
    [
        ("", "", "", []),
        ("", "x\nabcd", "", []),
        ("", "x\nabcd", "\n\n", []),
        ("", "x\nabc", "abc", []),  # too little to go by
        ("", "x\nabcd", "abcd", [2]),
        ("", "xabcd", "abcd", []),  # in the middle of a line
        ("y", "xabcd", "abcd", [1]),
        ("y", "abcd", "abcd", []),  # nothing before it
        ("", "x\n\n\nabcd", "\nabcd", [3]),
        ("", "x\n\n\nabcd", "\n\n\n\nabcd", [2]),
        ("", "x\nabcd 1\nabcde 2\nabcd 3", "abcde 3", [9, 2, 17]),
        ("y", "x\nabcd", "\nabcd", [1]),
        ("y", "x\n\nabcd", "\nabcd", [2]),
    ],
)
def test_places_before_a_repetition(prefix: str, text: str, suffix: str, expected: list[int]) -> None:
    assert repetitions(prefix, text, suffix) == expected


@pytest.mark.parametrize(
    ("text", "suffix", "expected"),
    [
        ("", "", []),
        ("a\nb\n", "", []),
        ("a\nb\n", "\n \n", []),
        ("a\nb\n", "c", [2]),  # the first line is not left out
        ("a\n\n\nb\n", "c", [4]),
        ("a\n\n\nb\n", "\nc", [3]),
        ("a\n\n\nb\n", "\n\n\n\n\nc", [2]),
        ("a\n    \nb\n", "c", [7]),  # what is blank has no indentation
        ("  a\n    b\n  c\n  d", "\n  e", [10, 14]),
        ("\ta\n    b\n\tc", "\te", [9]),
    ],
)
def test_places_before_a_line_that_is_as_far_indented_as_the_suffix(
    text: str, suffix: str, expected: list[int]
) -> None:
    assert list(neighbours(text, suffix)) == expected


@pytest.mark.parametrize(
    ("prefix", "text", "suffix", "over", "expected"),
    [
        ("x = ", "1\ny = 2\nlong = 3", "\nlong = 4\n", False, [1, 7]),
        ("x = ", "1\ny = 2\nlong = 3", "\nlong = 4\n", True, [1]),
        ("x = ", "1\ny = 2\nz = 3", "z = 4\n", False, []),
        ("    ", "1\ny = 2\nlong = 3", "\nlong = 4\n", True, []),
        ("", "y = 1\nfor x in y:\n    z\nb", "for x in z:\n    z\nb", False, [6, 6, 24]),
        ("", "y = 1\nfor x in y:\n    z\nb", "for x in z:\n    z\nb", True, []),
    ],
)
def test_where_a_text_may_be_cut_that_runs_on(
    prefix: str, text: str, suffix: str, over: bool, expected: list[int]
) -> None:
    assert list(stops(prefix, text, suffix, over)) == expected
