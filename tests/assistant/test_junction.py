"""Line ends between an answer and what stands right of it."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.junction import mended

LINES = [
    "x = 1",
    "if x:\n    y = 2",
    "@f",
    "# note",
    "def f():\n    pass",
    "class A: ...",
    "async def g(): ...",
    "default = 1",
]
ends = st.integers(0, 5).map(lambda count: "\n" * count)
texts = st.one_of(
    st.text(st.sampled_from("ad@# \t\n"), max_size=12), st.tuples(st.sampled_from(LINES), ends).map("".join)
)


@pytest.mark.parametrize(
    ("prefix", "text", "suffix", "expected"),
    [
        ("", "", "", ""),
        ("", "\n\n\n\n", "def f(): ...\n", "\n\n\n\n"),
        ("", " \n\n", "def f(): ...\n", " \n\n"),
        ("", "x", "", "x"),
        ("", "x", "\n \n\t", "x"),
        ("", "x\n\n\n\n\n", "\n\n", "x\n\n\n\n\n"),
        # Two blank lines are the most.
        ("", "x\n\n\n\n\n", "y\n", "x\n\n\n"),
        ("", "x\n\n\n", "\n\ny\n", "x\n"),
        ("", "x\n", "\n\n\ny\n", "x"),
        ("", "x", "\n\n\n\n\ny\n", "x"),
        # Whole lines have an end.
        ("", "x", "\ny\n", "x\n"),
        ("a\n", "x", "\n    y\n", "x\n"),
        ("a", "x", "\ny\n", "x"),
        ("a\n", "x", "y\n", "x"),
        ("a\n", "x", "\n\n\ny\n", "x"),
        # Two blank lines go before a definition.
        ("", "x\n\n", "def f(): ...\n", "x\n\n\n"),
        ("", "x\n", "\nclass A: ...\n", "x\n\n"),
        ("", "x", "\nasync def f(): ...\n", "x\n\n"),
        ("", "x\n", "\n@f\n", "x\n\n"),
        ("", "x\n", "def f(): ...\n", "x\n"),
        ("", "x\n\n", "default = 1\n", "x\n\n"),
        ("", "x\n\n", "    def f(): ...\n", "x\n\n"),
        ("", "x\n\n", "\tdef f(): ...\n", "x\n\n"),
        ("", "@f\n\n", "def f(): ...\n", "@f\n\n"),
        ("@", "f\n\n", "def f(): ...\n", "f\n\n"),
        ("# a ", "note\n\n", "def f(): ...\n", "note\n\n"),
        ("", "# a note", "\ndef f(): ...\n", "# a note\n"),
        ("", "    # a note\n\n", "def f(): ...\n", "    # a note\n\n\n"),
    ],
)
def test_line_ends_are_mended(prefix: str, text: str, suffix: str, expected: str) -> None:
    assert mended(prefix, text, suffix) == expected


@given(texts, texts, texts)
def test_mending_changes_only_line_ends_at_the_end_and_once(prefix: str, text: str, suffix: str) -> None:
    found = mended(prefix, text, suffix)
    assert found.rstrip("\n") == text.rstrip("\n")
    assert mended(prefix, found, suffix) == found
    if not text.strip() or not suffix.strip():
        assert found == text


@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=4), ends, st.lists(st.sampled_from(LINES), max_size=3))
def test_a_program_without_strings_stays_what_it_is(left: list[str], between: str, right: list[str]) -> None:
    text, suffix = "\n".join(left) + "\n" + between, "\n".join(right)
    found = mended("", text, suffix)
    try:
        before = ast.dump(ast.parse(text + suffix))
    except SyntaxError:
        return
    assert ast.dump(ast.parse(found + suffix)) == before
