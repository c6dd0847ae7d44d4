"""Comforts of typing: where lines and units end."""

from __future__ import annotations

import ast

import pytest

from assistant.repl.lines import is_open, may_end, next_indent, unit_end


@pytest.mark.parametrize(
    "text",
    [
        *("", "# a remark", "x = 1", "return", "    return x", "def f(x):", "    else:", "class A(B): pass", "@cached"),
        *("async def f():", "x = 'unended'.join", "match x:", "    case 1:", "if x:\n    y = 2", "f(1,\n  2)"),
    ],
)
def test_a_finished_line_may_end(text: str) -> None:
    assert may_end(text)


@pytest.mark.parametrize(
    "text",
    [
        *("x =", "for i in", "def f(", "def f", "import", "from a import", "x = lambda y:", "a and", "if x", "x: "),
        *("'''text", "x = [1,", "x = 1 + \\", "if x:\n    y =", "{'a':", "x = 'open"),
    ],
)
def test_an_unfinished_line_goes_on(text: str) -> None:
    assert not may_end(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("f(", True), ("f(x)", False), ('"""a', True), ('"""a"""', False), ("x = [1,\n", True), ("a \\", True)),
        *(("x = 'a", False), ("    )", False), ("def f():\n    x = (", True), ("f('(')", False), ("# (", False)),
        *(("def f():\n        a\n    b(", True), ("", False), ("$ ?", False)),
    ],
)
def test_open_brackets_and_strings(text: str, expected: bool) -> None:
    assert is_open(text) is expected


@pytest.mark.parametrize(
    ("text", "indent"),
    [
        *(("def f():", 4), ("x = 1", 0), ("    return 1", 0), ("        pass", 4), ("x = [", 4), ("    a = 1", 4)),
        *(("def f():  # why", 4), ("# a: b", 0), ("", 0), ("if x:\n    y", 4), ("return f(", 4), ("returned = 1", 0)),
    ],
)
def test_the_next_line_is_indented(text: str, indent: int) -> None:
    assert next_indent(text) == " " * indent


UNITS = [
    ("def f(n):\n", "    if n:\n        return 1\n\n    return 2\n\n", "print(f(1))\n"),
    ("def f(n):\n", "    if n:\n        return 1\n    return 2\n", "def g(): pass\n"),
    ("import os\n", "import re\n\n", "x = 1\n"),
    ("class A:\n    def f(self):\n", "        return 1\n\n", "    def g(self):\n"),
    ("class A:\n    x = 1\n", "    y = 2\n", "print(A)\n"),
    ("# sort it\n", "def sort(x):\n    return sorted(x)\n", "# use it\n"),
    ("try:\n", "    f()\nexcept OSError:\n    pass\nelse:\n    g()\n", "h()\n"),
    ("def f():\n", '    """Text\n\nat the margin.\n"""\n    return 1\n', "f()\n"),
    ("x = [\n", "    1,\n]\n\n", "y = 2\n"),
    ("", "import os\n\n", "import re\n"),
    ("# below 50\n", "a = f(50)\nprint(a)\n", "# below 100\n"),
    ("# sum up\n", "# all of them\ntotal = 0\nfor x in y:\n    # each\n    total += x\n", "print(total)\n"),
    ("def f():", "\n    return 1\n\n\n", "f()\n"),
]


@pytest.mark.parametrize(("before", "unit", "after"), UNITS)
def test_a_unit_ends_where_the_next_begins(before: str, unit: str, after: str) -> None:
    assert unit_end(before, unit + after) == len(unit)
    ast.parse(before + unit)


@pytest.mark.parametrize(("before", "unit", "after"), UNITS)
def test_a_unit_is_not_over_too_early(before: str, unit: str, after: str) -> None:
    """Seen character by character, as it is written, it never ends before its end."""
    for length in range(len(unit) + 1):
        assert unit_end(before, unit[:length]) is None


def test_half_a_word_does_not_end_a_unit() -> None:
    """`el` may become `else`."""
    before, body = "if x:\n", "    y = 1\n"
    assert unit_end(before, body + "els") is None
    assert unit_end(before, body + "else:") is None
    assert unit_end(before, body + "elses ") == len(body)
