"""Where a gap is closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.gap import MATCH, cuts, needle, unrepeated

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
