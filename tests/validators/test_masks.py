"""Masks and forced text, held to asking for every token and every character."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from assistant.bench import corpus
from assistant.bench.snippets import VERSIONS, Version
from tests.validators.test_tokens import NoUpperCase
from validators import PythonValidator, TokenState, TokenValidator
from validators.masks import Masks
from validators.python import State
from validators.tokens import EveryId
from validators.vocabulary import Vocabulary

DATA = Path(__file__).parent / "data" / "tokens.txt"
SIGNS = str.maketrans({"↵": "\n", "⇥": "\t", "␍": "\r", "␌": "\f"})
PIECES: list[bytes | None] = [
    *(bytes([value]) for value in range(256)),
    None,
    b"",
    b"\xe2\x86",
    b"\x92",
    b"a\xe4\xb8",
    b"f\xe4",
    b"'\xf0\x9f",
    b"\xad x",
    b"\xad\xe4",
    b"(\xe2",
    b"ed\x80",
    *(line.translate(SIGNS).encode() for line in DATA.read_text(encoding="utf-8").splitlines()),
]
ENDS = [
    "", "", "f'", "f'{", "f'{a!", "f'{a!r", "f'''{", "rf'{a:", "f'{a:{b", "f'{a(", 'f"{x}{', "f'}", "f'{a[", "b'",
    "'\\", "'\\x", "'\\u0", "'\\N{DIG", "1", "0x", "1e", "12.", ".5", "..", ".", "<", "!", "-", "(((", "[{", "#",
    "\\\n", "\\", "\\\r", "\r", "\f", "\t", "f(a=1,", '""', "''", "f(a=1, a", "match ", "async ", "é", "1i", "0xfo",
    "lambda ", "case ", "  ", "\n   ", "ex", "im", 'f"{a["', "rb'", "f(a = ", "01", "1_", "0.5", "10", "1.5e",
    "0_0", "00_10", "1_0.",
]  # fmt: skip
PROGRAM = '''
import os, sys as s
from . import (a, b)
async def f(x, /, y: int = 3, *z, **k) -> "t":
    """doc""" 'more'
    if x:
        return f"{x!r:>{y}} {{}} {'a' + f'{b}'}" + rb'\\x00'.decode(), [1.5e3, 0x1f for i in z if not i]
    elif y != 2: pass
    else:
        with open(x) as g, h: yield {**k, "a": 1}
    try:
        x += y if z else (lambda a: a)
    except (A, B) as e:
\t  raise E from e
    finally: del x[1:2, ...]
match x:
    case {"a": [1, *_]} | C(b=2) as q if q: x
@d
class C(B, m=1): x: int = 5 # c
'''


@cache
def subject(version: Version) -> tuple[PythonValidator, TokenValidator[State], EveryId[State]]:
    validator = PythonValidator(version)
    tokens = TokenValidator(validator, PIECES)
    return validator, tokens, EveryId(tokens._accepts, len(PIECES))


def ids(mask: int) -> list[int]:
    return [token for token in range(len(PIECES)) if mask >> token & 1]


def states(version: Version, count: int, seed: int) -> list[tuple[str, TokenState[State]]]:
    """Viable places in real files and in `PROGRAM`, with odd ends."""
    rng, found = random.Random(seed), list[tuple[str, TokenState[State]]]()
    _, tokens, _ = subject(version)
    texts = [PROGRAM, PROGRAM, *(source.text for source in corpus.standard_library(4, seed))]
    while len(found) < count:
        text = rng.choice(texts)
        left = text[: rng.randrange(len(text))] + rng.choice(ENDS)
        state = tokens.start(left)
        if not tokens.problems(state):
            halves = [state, *(tokens.accept_block(state, [token])[1] for token in (0xE2, 0xE4, 0xCC, 0xF0))]
            found.append((left, rng.choice(halves)))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mask_is_what_asking_for_every_id_gives(version: Version) -> None:
    validator, tokens, every = subject(version)
    masks = tokens._masks
    for left, state in states(version, 60, version[1]):
        mask, expected = masks.of(state.text, state.pending), every.of(state.text, state.pending)
        assert ids(mask ^ expected) == [], (left, [PIECES[token] for token in ids(mask ^ expected)])
        assert tokens.mask(state) == expected.to_bytes(4 * ((len(PIECES) + 31) // 32), "little")
    assert validator.check(validator.start("x = 1"), "\n").accepted == 1


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_masks_of_many_states(version: Version) -> None:
    _, tokens, every = subject(version)
    for left, state in states(version, 2_000, 100 + version[1]):
        wrong = tokens._masks.of(state.text, state.pending) ^ every.of(state.text, state.pending)
        assert not wrong, (version, left, state.pending, [PIECES[token] for token in ids(wrong)])


@settings(max_examples=25, phases=(Phase.explicit, Phase.generate))
@given(
    st.lists(st.text(st.sampled_from("ax_1.0=!<>*-+:,;'\"\\{}()[]# \n\tfrbé→ij"), min_size=1, max_size=5), max_size=40),
    st.sampled_from(VERSIONS),
    st.integers(0, len(PROGRAM)),
    st.sampled_from(ENDS),
)
def test_any_vocabulary(texts: list[str], version: Version, cut: int, end: str) -> None:
    pieces = [text.encode() for text in texts]
    validator, _, _ = subject(version)
    tokens = TokenValidator(validator, pieces)
    state = tokens.start(PROGRAM[:cut] + end)
    accepted = [token for token in range(len(pieces)) if tokens.accept_block(state, [token])[0]]
    mask = int.from_bytes(tokens.mask(state), "little")
    assert [token for token in range(len(pieces)) if mask >> token & 1] == accepted


@pytest.mark.parametrize("version", VERSIONS)
def test_letters_are_those_of_the_version(version: Version) -> None:
    """Of Unicode 12.1, 13, 15 and 16: each a letter from some Python version on."""
    letters = ["é", "\u08be", "\U00011f04", "\U00010d4a"]
    tokens = TokenValidator(PythonValidator(version), [*(each.encode() for each in letters), b"x\xf0\x91\xbc\x84"])
    for left in ("", "x = ", "x", "(", "'"):
        state = tokens.start(left)
        accepted = [token for token in range(5) if tokens.accept_block(state, [token])[0]]
        assert [token for token in range(5) if tokens.mask(state)[0] >> token & 1] == accepted
        known = 5 if left == "'" or version >= (3, 14) else 4 if version >= (3, 12) else 2 if version >= (3, 9) else 1
        assert len(accepted) == known


def test_rulers_are_not_tried_one_by_one() -> None:
    """Rows of signs as real vocabularies have them: few can be code at all, and the others cost nothing."""
    rows = [
        sign * count for sign in ("-", "=", "*", "/", "//", "|", "~", "!", ".", "@-", "(-", ",") for count in (9, 70)
    ]
    texts = [head + row + end for row in rows for head in ("", "/*", "//", " |", "#") for end in ("", "\n", "/\n\n")]
    pieces = [text.encode() for text in texts]
    validator = PythonValidator()
    tokens, masks = TokenValidator(validator, pieces), Masks(validator.scanner, Vocabulary(pieces))
    places = ("", "x", "x ", "f(x", "f([x", "(", "'", "f'{x", "x = y", "if x:", "1", "case x", "def f(a, ", "#")
    for left in places:
        state = tokens.start(left)
        accepted = sum(1 << at for at in range(len(pieces)) if tokens.accept_block(state, [at])[0])
        assert masks.of(state.text.line, state.text.block) == accepted
    assert masks.asked < len(places) * len(pieces) / 4


def test_limits_of_nesting() -> None:
    for left in ("(" * 195, "x = " + "[" * 199, "".join(" " * n + "if x:\n" for n in range(98)) + " " * 98 + "while x"):
        _, tokens, every = subject((3, 12))
        state = tokens.start(left)
        assert not tokens.problems(state)
        assert tokens._masks.of(*state) == every.of(*state)


def test_a_mask_is_put_together_once_and_from_what_is_known() -> None:
    """The parser's work for a new statement in a new place is nothing once such statements have been seen."""
    validator = PythonValidator((3, 12))
    masks = Masks(validator.scanner, Vocabulary(PIECES))

    def ask(left: str) -> None:
        state = validator.start(left)
        masks.of(state.line, state.block)

    for left in ("f(x", "f(", "def g(a):\n    return [f(x", "def g(a):\n    return [f("):
        ask(left)
    unknown, work, read = masks.unknown, masks._follower.work, masks._lexer.read_count
    ask("f(x")
    assert masks.unknown == unknown
    ask("def g(a):\n    while a:\n        b = [f(x")
    assert masks.unknown == unknown + 1
    assert masks._follower.work - work < 25, "the stack below is what differs"
    assert masks._lexer.read_count == read, "the vocabulary is not read again"


def test_other_validators_have_masks_too() -> None:
    tokens = TokenValidator(NoUpperCase(), [b"a", b"A", None, b"bc", b"b\xc3"])
    assert tokens.mask(tokens.start("")) == bytes([0b11001, 0, 0, 0])
    assert tokens.forced(tokens.start("")) == ()


def forced_by_hand(validator: PythonValidator, state: State, alphabet: Sequence[str]) -> str:
    text = ""
    while not validator.complete(state):
        possible = [each for each in alphabet if validator.check(state, each).accepted]
        if len(possible) != 1:
            break
        text += possible[0]
        state = validator.check(state, possible[0]).state
    return text


@pytest.mark.parametrize("version", VERSIONS)
def test_forced_text_is_what_one_character_after_the_other_allows(version: Version) -> None:
    validator, _, _ = subject(version)
    alphabet = [chr(code) for code in range(0x250)] + ["\u0301", "→", "中"]
    for _, state in states(version, 25, 7):
        assert validator.forced(state.text) == forced_by_hand(validator, state.text, alphabet)
    for left, text in (("try:\n    pass\nex", "cept"), ("for x i", "n"), ("from x im", "port"), ("x = ", ""), ("", "")):
        assert validator.forced(validator.start(left)) == text
    assert validator.forced(validator.start("x if y e", "\n")) == "lse"


def test_a_forced_id_is_the_only_one() -> None:
    validator = PythonValidator((3, 12))
    tokens = TokenValidator(validator, [b"e", b"ls", b"x", b" ", b"lse"])
    state = tokens.start("y = x if x ")
    assert tokens.forced(state) == (), "a blank, too"
    _, inside = tokens.accept_block(state, [0])
    assert tokens.forced(inside) == (), "in one piece or in two"
    _, half = tokens.accept_block(inside, [1])
    assert tokens.forced(half)[:1] == (0,)
    assert tokens.forced(half, 1) == (0,)
    for left in ("x", "x = 1\n"):
        assert tokens.forced(tokens.start(left)) == (), "the file may end"


@pytest.mark.parametrize("version", VERSIONS)
def test_forced_ids_are_the_only_ones_in_their_masks(version: Version) -> None:
    validator, slow, _ = subject(version)
    quick = TokenValidator(validator, PIECES)
    lefts = ["from x im", "x if y e", "for x i", "try:\n    pass\nex", "from . i", "x = 1 if a els"]
    every = [(left, quick.start(left)) for left in lefts] + states(version, 40, 11)
    for left, state in every:
        if state.pending:
            assert quick.forced(state) == (), left
            continue
        expected, at = [], state
        while not slow.complete(at) and len(only := ids(int.from_bytes(slow.mask(at), "little"))) == 1:
            expected += only
            _, at = slow.accept_block(at, only)
        assert list(quick.forced(state)) == expected, left
    assert "_masks" not in vars(quick), "the vocabulary is not read"
