"""Taking a suggestion piece by piece: the file parses after each."""

from __future__ import annotations

import ast

import pytest

from assistant.document import Gap
from assistant.judge import refusal
from assistant.lsp.stops import Kind, ends, next_stop


def pieces(gap: Gap, text: str, kind: Kind) -> list[str]:
    """Take all of a text, a piece at a time."""
    taken: list[str] = []
    while text:
        length = next_stop(gap, text, kind)
        assert length > 0
        taken.append(text[:length])
        gap, text = Gap(gap.left + text[:length], gap.right), text[length:]
    return taken


@pytest.mark.parametrize(
    ("left", "text", "right", "words", "lines"),
    [
        ("def f(x):\n    ", "return x + 1", "\n", ["return", " x", " + 1"], ["return x + 1"]),
        ("", "print(a, [b])", "", ["print", "(a, [b])"], ["print(a, [b])"]),
        ("", "if x:\n    y = 1\nelse:\n    z", "", ["if x:\n    y", " = 1", "\nelse:\n    z"], None),
        ("", "a = 1\n\nb = 2", "", None, ["a = 1", "\n\nb = 2"]),
        ("", "a = 1\r\nb = 2\r\n", "", None, ["a = 1", "\r\nb = 2", "\r\n"]),
        ("f(", "a, b", ")", ["a", ",", " b"], ["a, b"]),
    ],
)
def test_pieces(left: str, text: str, right: str, words: list[str] | None, lines: list[str] | None) -> None:
    gap = Gap(left, right)
    kinds: tuple[Kind, ...] = ("word", "line")
    for kind, expected in zip(kinds, (words, lines), strict=True):
        taken = pieces(gap, text, kind)
        assert expected is None or taken == expected
        written = ""
        for piece in taken:
            written += piece
            ast.parse(left + written + right)
        assert written == text


def test_in_a_broken_file_a_word_is_a_word() -> None:
    gap = Gap("x = (\n", "\n)) # broken")
    assert refusal(gap.filled("a + b")) is not None
    assert pieces(gap, "a + b", "word") == ["a", " +", " b"]


def test_ends_cover_the_text() -> None:
    for kind in ("word", "line"):
        assert [*ends("  \n", kind)] == [3]
        assert [*ends("", kind)] == []
