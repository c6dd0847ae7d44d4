"""Python's own word."""

from __future__ import annotations

import ast
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.judge import refusal


@given(st.text(st.sampled_from("ab1 \n\t()[]:=.,'\"#\\\0\ufeff"), max_size=20))
def test_it_says_what_ast_parse_says(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError):
        assert refusal(text)
    else:
        assert refusal(text) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = = 3", "1:5: invalid syntax"),
        ("\ufeffx = 1\r\n", None),
        ("return 1", None),
        ("'\\d'", None),  # only a warning, and warnings are errors in these tests
        ("a\0", "1:1: "),
        ("-" * 100_000 + "1", "1:1: too deeply nested"),
        ("\ud800", "1:1: "),
    ],
)
def test_refusals_say_where_and_why(text: str, told: str | None) -> None:
    said = refusal(text)
    assert said is None if told is None else said is not None and said.startswith(told)
