"""Other engines on the same blocks, where they are installed: `viable bench validator --anchors`.

They bring no grammar of Python and know no indentation. They get ours, rewritten: strings are whole, f-strings too,
lines may stand in any order, and the order of arguments and parameters is not checked. The files are as `ast.unparse`
writes them, so that brackets hold no line ends and there are no comments. Both engines read the same texts.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from assistant.bench.corpus import Source
from validators import PythonValidator, TokenValidator
from validators.grammar import GRAMMAR
from validators.words import KEYWORDS

__all__ = ["Anchor", "against_llguidance", "available", "lark_grammar", "plain_sources"]

_TOKEN = re.compile(r"\s*(\{[\d.]*\.\.[\d.]*\}|'[^']+'|\$[\w+]+|\w+|[()\[\]|*+])")
_RULE = re.compile(r"^(\w+)(%?):", re.MULTILINE)
_LOOSE = {
    "params": "_p_or_d (',' _p_or_d)* [',']",
    "lambda_params": "_l_or_d (',' _l_or_d)* [',']",
    "arguments": "_argument (',' _argument)* [',']",
    "class_arguments": "_pattern_argument (',' _pattern_argument)* [',']",
    "mapping": "_entry (',' _entry)* [',']",
    "_f_string": "STRING",
    "_t_string": "STRING",
}
_EXTRA = """
_p_or_d: _p | _d | '*' [_p] | '**' _p | '/'
_l_or_d: NAME ['=' expression] | '*' [NAME] | '**' NAME | '/'
_argument: NAME '=' expression | '*' expression | '**' expression | _named
_pattern_argument: pattern | NAME '=' pattern
_entry: _key ':' pattern | '**' NAME
"""
_EMPTY = ("params", "lambda_params", "arguments", "class_arguments", "mapping")
_UNUSED = re.compile(r"_?(?:looped_)?(?:flat|field)")  # what is inside f-strings
_LINES = (
    "line",
    "elif_line",
    "else_line",
    "except_line",
    "except_star_line",
    "try_else_line",
    "finally_line",
    "case_line",
)
_TERMINALS = {"BOUND": "NAME", "CAPTURE": "NAME", "IMAGINARY": "NUMBER", "BYTES": "STRING"}


class Anchor(NamedTuple):
    """Nanoseconds of both engines at the same places of the same files."""

    blocks: list[int]
    """Theirs, for each block of three tokens: checked, not committed."""
    ours_first: list[int]
    """Ours, by a validator that has seen nothing."""
    ours_again: list[int]
    masks: list[int]
    """Theirs, before each block."""
    ours_masks: list[int]
    """Ours, on a second pass."""
    refused: int
    """Files in which they refused something."""


def available() -> Any | None:
    """llguidance, if it can be imported."""
    return import_module("llguidance") if find_spec("llguidance") else None


def plain_sources(sources: Sequence[Source], count: int) -> Iterator[Source]:
    for source in sources:
        text = ast.unparse(ast.parse(source.text)) + "\n"
        if 2_000 <= len(text) <= 8_000 and text.isascii():
            yield Source(source.name, text)
            count -= 1
        if not count:
            return


def lark_grammar(version: tuple[int, int]) -> str:
    """Our grammar in the notation of Lark, loosened as said above."""
    text = GRAMMAR + _EXTRA
    marks = list(_RULE.finditer(text))
    rules = {}
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        name = mark[1]
        if not _UNUSED.match(name):
            body = _LOOSE.get(name, text[mark.end() : after.start() if after else len(text)])
            alternatives = _Reader(body, version).choice()
            rules[_name(name)] = f'{alternatives} | ""' if name in _EMPTY else alternatives
    lines = " | ".join(_name(line) for line in _LINES)
    parts = [f"start: NEWLINE? ({lines})*", *(f"{name}: {body}" for name, body in rules.items() if body)]
    parts += [
        f"NAME: /[A-Za-z_][A-Za-z0-9_]*/ & ~/({'|'.join(KEYWORDS)})/",
        r"NUMBER: /0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+/ | DECIMAL",
        r"DECIMAL: /([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[jJ]?/",
        r"""STRING: /[bBrRuUfF]{0,2}("([^"\\\n]|\\(.|\n))*"|'([^'\\\n]|\\(.|\n))*')/ | LONG""",
        r"""LONG: /[bBrRuUfF]{0,2}""" + '"""' + r"""([^"\\]|\\(.|\n)|""?[^"\\])*""" + '"""/',
        r"AUGASSIGN: /(\+|-|\*|@|\/|%|&|\||\^|<<|>>|\*\*|\/\/)=/",
        r"NEWLINE: /\n[ \n]*/",
        r"%ignore / +/",
    ]
    return "\n".join(parts) + "\n"


class _Reader:
    """Rewrites the text of one rule."""

    def __init__(self, text: str, version: tuple[int, int]) -> None:
        self._tokens = [found[1] for found in _TOKEN.finditer(text)]
        self._at = 0
        self._version = version

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def choice(self) -> str:
        kept = []
        while True:
            keep = True
            if self._peek().startswith("{"):
                low, high = ([int(part) for part in end.split(".")] for end in self._range(self._next()))
                keep = tuple(low) <= self._version <= tuple(high)
            sequence = self._sequence()
            if keep and sequence:
                kept.append(sequence)
            if self._peek() != "|":
                return " | ".join(kept)
            self._next()

    @staticmethod
    def _range(guard: str) -> tuple[str, str]:
        low, high = guard[1:-1].split("..")
        return low or "3.0", high or "3.99"

    def _sequence(self) -> str:
        items = []
        while self._peek() not in ("", "|", ")", "]"):
            token = self._next()
            if token in ("(", "["):
                inside = self.choice()
                self._next()
                item = f"({inside}){'?' if token == '[' else ''}" if inside else ""
            elif token[0] == "$":
                item = ""
            elif token[0] == "'":
                item = f'"{token[1:-1]}"'
            else:
                item = _TERMINALS.get(token, token if token.isupper() else _name(token))
            if self._peek() in ("*", "+"):
                item = f"{item}{self._next()}" if item else self._next() and ""
            items.append(item)
        return " ".join(item for item in items if item)


def _name(rule: str) -> str:
    return "in" + rule if rule.startswith("_") else "r_" + rule


def against_llguidance(
    sources: Sequence[Source], pieces: Sequence[bytes | None], encode: Callable[[str], list[int]]
) -> Anchor:
    """Three tokens at a time: theirs by `validate_tokens` and then committed, ours by `accept_block`.

    Raises RuntimeError where it does not take the grammar.
    """
    llg = available()
    assert llg is not None
    end = next(token for token, piece in enumerate(pieces) if not piece)
    tokenizer = llg.LLTokenizer(llg.TokenizerWrapper(_Vocabulary(pieces, end, encode)))
    grammar = llg.LLMatcher.grammar_from_lark(lark_grammar((3, 11)))
    found = Anchor([], [], [], [], [], 0)
    refused = 0
    texts = [encode(source.text) for source in sources]
    for ids in texts:
        matcher = llg.LLMatcher(tokenizer, grammar)
        if matcher.is_error():
            raise RuntimeError(matcher.get_error())
        for at in range(0, len(ids), 3):
            block = ids[at : at + 3]
            found.masks.append(_clocked(matcher.compute_bitmask)[1])
            accepted, spent = _clocked(lambda: matcher.validate_tokens(block))  # noqa: B023
            found.blocks.append(spent)
            if accepted < len(block) or not matcher.consume_tokens(block):
                refused += 1
                break
    validator = TokenValidator(PythonValidator((3, 11)), pieces)
    for times in (found.ours_first, found.ours_again):
        for ids in texts:
            state = validator.start("")
            for at in range(0, len(ids), 3):
                if times is found.ours_again:
                    found.ours_masks.append(_clocked(lambda: validator.mask(state))[1])  # noqa: B023
                (_, state), spent = _clocked(lambda: validator.accept_block(state, ids[at : at + 3]))  # noqa: B023
                times.append(spent)
        for ids in texts if times is found.ours_first else ():  # masks are measured warm, as theirs are
            state = validator.start("")
            for at in range(0, len(ids), 3):
                validator.mask(state)
                _, state = validator.accept_block(state, ids[at : at + 3])
    return found._replace(refused=refused)


def _clocked(action: Callable[[], Any]) -> tuple[Any, int]:
    begin = time.thread_time_ns()
    result = action()
    return result, time.thread_time_ns() - begin


class _Vocabulary:
    """What llguidance asks a tokenizer for."""

    def __init__(self, pieces: Sequence[bytes | None], end: int, encode: Any) -> None:
        self.eos_token_id = end
        self.bos_token_id = None
        self.tokens = [piece or b"\xff<%d>" % token for token, piece in enumerate(pieces)]
        self.special_token_ids = [token for token, piece in enumerate(pieces) if not piece]
        self._encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        return list(self._encode(text.decode() if isinstance(text, bytes) else text))
