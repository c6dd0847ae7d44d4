"""Parsers asked what they were not made for: can this text still become a program?

tree-sitter recovers from mistakes, so a text counts as viable where nothing is wrong before its end. CPython says of
some texts that they are incomplete (``PyCF_ALLOW_INCOMPLETE_INPUT``, what the interactive prompt goes by), and of
others that they are wrong, whether or not something can still follow. Neither has masks.
"""

from __future__ import annotations

import ast
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from assistant.bench.corpus import Block, Source, pieces
from validators import PythonValidator

__all__ = ["Cpython", "Found", "Parser", "against", "installed"]

_INCOMPLETE = 0x4000  # PyCF_ALLOW_INCOMPLETE_INPUT; `codeop` has it under a private name


class Parser(Protocol):
    """Says of texts whether they are viable, by a rule that is not exact."""

    name: str

    def read(self, before: Any, left: str, text: str) -> Any:
        """Reads `text`, and `left` if it must; `before`: what it returned for `left`, or None. This is timed."""
        ...

    def viable(self, text: str) -> bool:
        """Whether it takes `text` for the beginning of a program."""
        ...


class Cpython:
    """The running interpreter, which reads everything anew."""

    name = "CPython"

    def read(self, before: Any, left: str, text: str) -> None:
        self.viable(left + text)

    def viable(self, text: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compile(text, "<text>", "exec", ast.PyCF_ONLY_AST | _INCOMPLETE, dont_inherit=True)
            except SyntaxError as error:
                return error.msg == "incomplete input"
            except ValueError:
                return False
        return True


class Tree(NamedTuple):
    """A syntax tree and the bytes that it is of."""

    nodes: Any
    data: bytes


class TreeSitter:
    """tree-sitter with its own Python grammar.

    It is timed as it is meant to be used, on a tree that it is told the changes of. Whether a text is viable it says
    from the whole text: a tree that has grown has more mistakes in it.
    """

    name = "tree-sitter"

    def __init__(self) -> None:
        core, grammar = import_module("tree_sitter"), import_module("tree_sitter_python")
        self._parser = core.Parser(core.Language(grammar.language()))

    def read(self, before: Any, left: str, text: str) -> Tree:
        if not isinstance(before, Tree):
            data = (left + text).encode()
            return Tree(self._parser.parse(data), data)
        data, end = before.data + text.encode(), len(before.data)
        place = before.nodes.root_node.end_point
        before.nodes.edit(end, end, len(data), place, place, _point(place, text))
        return Tree(self._parser.parse(data, before.nodes), data)

    def viable(self, text: str) -> bool:
        data = text.encode()
        return not self._is_wrong(self._parser.parse(data).root_node, len(data.rstrip()))

    def _is_wrong(self, node: Any, end: int) -> bool:
        """Whether something is wrong that does not reach the end."""
        if not node.has_error:
            return False
        if node.is_error or node.is_missing:
            return bool(node.end_byte < end)
        return any(self._is_wrong(child, end) for child in node.children)


def _point(place: Any, text: str) -> tuple[int, int]:
    last = text.rfind("\n")
    if last < 0:
        return place[0], place[1] + len(text.encode())
    return place[0] + text.count("\n"), len(text[last + 1 :].encode())


def installed() -> list[Parser]:
    """Those that are here."""
    found: list[Parser] = [Cpython()]
    if find_spec("tree_sitter") and find_spec("tree_sitter_python"):
        found.append(TreeSitter())
    return found


class Wrong(NamedTuple):
    """How often each was wrong."""

    ours: int
    theirs: int
    of: int


class Found(NamedTuple):
    """The validator and one parser on the same blocks of three pieces of text."""

    ours: list[int]
    """Nanoseconds a block of files read from their beginning, each seen for the first time."""
    theirs: list[int]
    refused: Wrong
    """Blocks of files that parse."""
    accepted: Wrong
    """Blocks that nothing can mend."""


def against(parser: Parser, sources: Sequence[Source], bad: Sequence[Block]) -> Found:
    """Both read the files a block at a time, and the bad blocks each behind its left text."""
    ours, theirs, refused = list[int](), list[int](), Wrong(0, 0, 0)
    for source in sources:
        validator = PythonValidator()
        state, known, left = validator.start(""), None, ""
        parts = pieces(source.text)
        for at in range(0, len(parts), 3):
            text = "".join(parts[at : at + 3])
            begin = time.thread_time_ns()
            known = parser.read(known, left, text)
            theirs.append(time.thread_time_ns() - begin)
            begin = time.thread_time_ns()
            verdict = validator.check(state, text)
            ours.append(time.thread_time_ns() - begin)
            state, left = verdict.state, left + text
            wrong = verdict.accepted < len(text), not parser.viable(left)
            refused = Wrong(refused.ours + wrong[0], refused.theirs + wrong[1], refused.of + 1)
    validator = PythonValidator()
    whole = [validator.check(validator.start(block.left), block.text).accepted == len(block.text) for block in bad]
    taken = [parser.viable(block.left + block.text) for block in bad]
    return Found(ours, theirs, refused, Wrong(sum(whole), sum(taken), len(bad)))
