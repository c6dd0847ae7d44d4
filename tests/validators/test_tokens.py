"""Token by token, byte by byte and text at once: the same answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assistant.bench.snippets import VERSIONS
from validators import AcceptAll, Problem, PythonValidator, TokenValidator, Unit, Verdict
from validators.characters import characters
from validators.halves import examples

BYTES = [bytes([value]) for value in range(256)]
SPECIAL = 256
PIECES: list[bytes | None] = [*BYTES, None, "é".encode(), "naïve →".encode(), b"\xe2\x86", b"ab"]


def loud(character: str) -> bool:
    """Is it one of A to Z? What begins beyond ASCII is told apart by Python's kinds alone (`examples`)."""
    return "A" <= character <= "Z"


class NoUpperCase:
    """Accepts what has none of A to Z. States are lengths. Counts the characters it looks at."""

    def __init__(self) -> None:
        self.looked_at = 0

    def start(self, prefix: str, suffix: str = "") -> int:
        return len(prefix)

    def problems(self, state: int) -> tuple[Problem, ...]:
        return ()

    def check(self, state: int, text: str) -> Verdict[int]:
        self.looked_at += len(text)
        for count, character in enumerate(text):
            if loud(character):
                return Verdict(count, state + count, f"{character} is upper case")
        return Verdict(len(text), state + len(text), None)

    def complete(self, state: int) -> bool:
        return True

    def closing(self, state: int) -> str | None:
        return ""

    def unit_end(self, state: int, unit: Unit) -> bool:
        return False


def accepted(ids: Sequence[int]) -> int:
    validator = TokenValidator(NoUpperCase(), PIECES)
    return validator.accept_block(validator.start(""), ids)[0]


@given(st.text(max_size=12))
@example("\U0001cd00")  # like all characters that begin so new in Unicode 16, and no letter
def test_bytes_are_accepted_up_to_the_refused_character(text: str) -> None:
    upper = next((i for i, character in enumerate(text) if loud(character)), None)
    count = accepted(list(text.encode()))
    if upper is None:
        assert count == len(text.encode())
    else:
        # The first bytes of a refused character may still become another one.
        first = len(text[:upper].encode())
        assert first <= count < first + len(text[upper].encode())


@given(st.lists(st.integers(0, len(PIECES) - 1), max_size=8))
def test_a_block_is_its_tokens_one_by_one(ids: list[int]) -> None:
    validator = TokenValidator(NoUpperCase(), PIECES)
    state = validator.start("x")
    count, after = validator.accept_block(state, ids)
    singly, one_by_one = 0, state
    for token in ids:
        taken, one_by_one = validator.accept_block(one_by_one, [token])
        if not taken:
            break
        singly += 1
    assert (count, after) == (singly, one_by_one)
    data = b"".join(PIECES[token] or b"" for token in ids[:count])
    assert after.text == 1 + len(data[: len(data) - len(after.pending)].decode())


def test_no_special_no_broken_utf8_and_no_end_within_a_character() -> None:
    validator = TokenValidator(NoUpperCase(), PIECES)
    start = validator.start("")
    assert validator.accept_block(start, [SPECIAL])[0] == 0
    assert validator.accept_block(start, [0xFF])[0] == 0
    assert validator.accept_block(start, [0xE2, 0x41])[0] == 1
    _, inside = validator.accept_block(start, [0xE2])
    assert not validator.complete(inside)
    assert validator.closing(inside) is None
    count, whole = validator.accept_block(inside, [0x86, 0x92])
    assert count == 2 and validator.complete(whole) and whole.text == 1


def test_half_a_character_is_refused_where_none_that_begins_so_may_stand() -> None:
    class Ascii(NoUpperCase):
        def check(self, state: int, text: str) -> Verdict[int]:
            count = next((i for i, character in enumerate(text) if not character.isascii()), len(text))
            return Verdict(count, state + count, None)

    validator = TokenValidator(Ascii(), PIECES)
    assert validator.accept_block(validator.start(""), [0x61, 0xE2])[0] == 1


@given(st.characters(min_codepoint=0x80, exclude_categories=("Cs",)))
def test_examples_begin_with_the_bytes_and_show_every_kind(character: str) -> None:
    data = character.encode()
    for length in range(1, len(data)):
        found = examples(data[:length])
        assert all(example.encode().startswith(data[:length]) for example in found)
        if character.isidentifier():
            assert any(example.isidentifier() for example in found)


@pytest.mark.parametrize("version", VERSIONS)
def test_half_a_letter_is_one_of_the_version_asked_for(version: tuple[int, int]) -> None:
    """Letters of Unicode 12.1, 13, 15 and 16, each cut behind each of its bytes."""
    validator = TokenValidator(PythonValidator(version), [bytes([byte]) for byte in range(256)])
    for since, letter in (((3, 8), "é"), ((3, 9), "\u08be"), ((3, 12), "\U00011f04"), ((3, 14), "\U00010d4a")):
        accepted, _ = validator.accept_block(validator.start("x = "), letter.encode())
        assert accepted == len(letter.encode()) if version >= since else accepted < len(letter.encode())


def test_nothing_that_some_version_calls_a_letter_is_missing_among_the_examples() -> None:
    """Whatever interpreter runs this: with a letter that is known to a version, one of its examples is."""
    for letter in ("\u08be", "\U00011f04", "\U00010d4a", "\u0903", "\U0001e5f0", "\U00018d00"):
        data = letter.encode()
        for length in range(1, len(data)):
            shown = examples(data[:length])
            for version in VERSIONS:
                known = characters(version)
                for lead in ("", "a"):
                    if known.identifier(lead + letter):
                        assert any(known.identifier(lead + example) for example in shown)


def test_an_answer_is_worked_out_once() -> None:
    text = NoUpperCase()
    validator = TokenValidator(text, PIECES)
    state = validator.start("")
    for _ in range(3):
        validator.accept_block(state, [97, 98, 65])
    assert text.looked_at == 3


def test_accept_all_accepts_halves_and_specials() -> None:
    assert AcceptAll().accept_block(None, [SPECIAL, 0xE2, 0xFF]) == (3, None)
