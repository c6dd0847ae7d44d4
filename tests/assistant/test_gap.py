"""Where a gap is closed."""

from __future__ import annotations

import ast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assistant.gap import MATCH, cuts, needle, settle

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


@given(code, code, st.integers(0, 25))
def test_all_of_the_text_is_tried_first_and_no_cut_is_outside(text: str, suffix: str, closed: int) -> None:
    assume(closed <= len(text))
    found = list(cuts(text, suffix, closed))
    assert found[0] == closed
    assert all(0 <= cut <= closed for cut in found)
    first_line = text[:closed].split("\n", 1)[0]
    assert set(range(1, len(first_line) + 1)) <= set(found), "any beginning of the first line may be kept"
    ends = {i for i, character in enumerate(text[:closed]) if character == "\n"}
    assert ends <= set(found), "any number of whole lines may be kept"


@given(code, code, code)
def test_the_longest_beginning_that_parses_is_kept_up_to_whole_lines(prefix: str, text: str, suffix: str) -> None:
    asked: list[str] = []

    def parses(candidate: str) -> bool:
        asked.append(candidate)
        try:
            ast.parse(prefix + candidate + suffix)
        except SyntaxError:
            return False
        return True

    kept = settle(text, suffix, None, parses)
    assert len(asked) == len(set(asked)), "the same text was judged twice"
    if kept is None:
        assert not any(parses(text[:i]) for i in cuts(text, suffix, None) if text[:i].strip())
        return
    assert text.startswith(kept)
    assert kept.strip(), "nothing to see is not worth inserting"
    assert parses(kept)
    if parses(text) and text.strip():
        assert kept == text


def test_a_repeated_suffix_and_a_half_line_are_cut_off() -> None:
    suffix = "\n\ndef after():\n    pass\n"
    text = "a\n    b = 1\n    c = (2,"

    def parses(candidate: str) -> bool:
        try:
            ast.parse("def f():\n    " + candidate + suffix)
        except SyntaxError:
            return False
        return True

    assert settle(text, suffix, None, parses) == "a\n    b = 1"
    written = f"x{suffix}"
    assert settle(written, suffix, written.index(needle(suffix)), parses) == "x\n", "the blank line stays with the text"
