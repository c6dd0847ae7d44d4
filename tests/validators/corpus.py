"""Texts from CPython's own test suite, read where it is installed and never copied."""

from __future__ import annotations

import ast
import re
import warnings
from functools import cache

from tests.validators.oracle import Oracle

SUITES = (
    "syntax",
    "exceptions",
    "fstring",
    "grammar",
    "patma",
    "type_params",
    "tokenize",
    "positional_only_arg",
    "tstring",
)
_DOCTEST = re.compile(r"^( *)>>> ?(.*(?:\n\1\.\.\. ?.*)*)", re.MULTILINE)
LONGEST = 2_000
"""Characters of a text that is taken."""


@cache
def cpython_snippets(oracle: Oracle) -> tuple[str, ...]:
    """Every string constant of those test files, and every example in their docstrings. Empty where there are none."""
    root = oracle.library() / "test"
    found: dict[str, None] = {}
    for suite in SUITES:
        path = root / f"test_{suite}.py"
        if path.exists():
            found.update(dict.fromkeys(_texts(path.read_text(encoding="utf-8"))))
    return tuple(text for text in found if len(text) <= LONGEST and not text.startswith("\ufeff"))


def _texts(source: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except SyntaxError:  # a newer Python's test suite
            return _examples(source)
    constants = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [text for constant in constants for text in (*_examples(constant), constant)]


def _examples(text: str) -> list[str]:
    """Doctest examples as programs."""
    return [re.sub(r"\n *\.\.\. ?", "\n", found[2]) + "\n" for found in _DOCTEST.finditer(text)]
