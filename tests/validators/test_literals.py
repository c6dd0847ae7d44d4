"""Numbers and escapes against a definition that tries every ending."""

from __future__ import annotations

import ast
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.bench.snippets import VERSIONS
from tests.validators.oracle import oracles
from validators.aliases import ALIASES
from validators.characters import Characters, characters
from validators.literals import NUMBER_RUN, escape, finish_escape, number_end, shorten, string_kind

ROOT = Path(__file__).resolve().parents[2]
KNOWN = characters((sys.version_info[0], sys.version_info[1]))


def is_number(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = ast.parse(text, mode="eval").body
        except SyntaxError:
            return False
    return (
        isinstance(value, ast.Constant) and isinstance(value.value, (int, float, complex)) and text[0] in "0123456789."
    )


@given(st.text("01789abefjoxEJOX_.+-", min_size=1, max_size=7))
def test_the_run_is_the_longest_text_that_can_become_a_number(text: str) -> None:
    match = NUMBER_RUN.match(text)
    endings = ("", "0", "1", ".0", "0j", "j", "e0", "00")
    viable = 0
    while viable < len(text) and any(is_number(text[: viable + 1] + ending) for ending in endings):
        viable += 1
    found = len(match[0]) if match else 0
    if text[0] != ".":  # a lone '.' begins a number too, but the scanner has its own word on dots
        assert found == viable


@given(st.text("0189abefjoxEJ_.+-", min_size=1, max_size=7))
def test_where_a_number_ends_it_is_one(text: str) -> None:
    match = NUMBER_RUN.match(text)
    if match is None or not match[0]:
        return
    length = number_end(match[0])
    if length < 0:
        assert not is_number(match[0])
    else:
        assert is_number(match[0][:length])


def test_long_numbers_are_shortened_without_changing_what_they_can_become() -> None:
    assert shorten("1" * 100) == "1" * 100  # the digits of an integer count: 4,300 at most
    assert len(shorten("1" * 9000)) == 4301
    assert number_end("1" * 4300) == 4300 and number_end("1" * 4301) == -1
    assert number_end("1" * 4301 + ".5") == 4303
    assert len(shorten("0x" + "f" * 5000)) < 20
    assert len(shorten("1." + "5" * 5000)) < 20
    assert shorten("1" * 9 + "e" + "1" * 9) == "1" * 8 + "e" + "1" * 8


@pytest.mark.parametrize(
    ("text", "length", "done"),
    [
        (r"\n", 2, True),
        ("\\", 1, False),
        (r"\x4", 3, False),
        (r"\x4g", 3, False),
        (r"\x41", 4, True),
        (r"\u12", 4, False),
        (r"\U0010", 6, False),
        (r"\U0011", 5, False),
        (r"\U00110000", 5, False),
        (r"\N", 2, False),
        (r"\N{DASH}", 7, False),
        (r"\N{EM DASH}", 11, True),
        (r"\N{LF}", 6, True),  # an alias
        (r"\N{KEYCAP DIGIT ONE}", 10, False),  # a named sequence
        (r"\N{EM_", 5, False),
        ("\\\r", 2, False),
        ("\\\r\n", 3, True),
        ("\\\rx", 2, True),
    ],
)
def test_escapes(text: str, length: int, done: bool) -> None:
    assert escape(string_kind("", "'", False), text, KNOWN) == (length, done)


def test_escapes_of_other_strings() -> None:
    assert escape(string_kind("r", "'", False), r"\x", KNOWN) == (2, True)
    assert escape(string_kind("b", "'", False), r"\u", KNOWN) == (2, True)
    assert escape(string_kind("b", "'", False), r"\xg", KNOWN) == (2, False)
    assert escape(string_kind("rb", "'", False), "\\é", KNOWN) == (1, False)


@given(
    st.sampled_from(["\\", r"\x", r"\x4", r"\u00", r"\U0010", r"\N", r"\N{", r"\N{EM D", r"\N{latin small letter a w"])
)
def test_escapes_can_be_finished(part: str) -> None:
    rest = finish_escape(part, KNOWN)
    assert rest is not None
    assert escape(string_kind("", "'", False), part + rest, KNOWN) == (len(part + rest), True)


def test_names_are_refused_where_no_character_has_one_that_begins_so() -> None:
    kind = string_kind("", "'", False)
    names = [unicodedata.name(chr(point), "") for point in range(0x20, 0x3000, 7)]
    for name in [*filter(None, names), *ALIASES, "CJK UNIFIED IDEOGRAPH-4E00", "HANGUL SYLLABLE GAG"]:
        whole = rf"\N{{{name}}}"
        for end in range(3, len(whole)):
            assert escape(kind, whole[:end], KNOWN) == (end, False), whole[:end]
    assert escape(kind, r"\N{LATINX", KNOWN) == (8, False)
    assert escape(kind, r"\N{VS257}", KNOWN) == (7, False)


def test_a_name_that_no_character_has_is_not_finished() -> None:
    assert finish_escape(r"\N{NO CHARACTER IS CALLED SO", KNOWN) is None


@pytest.mark.parametrize("version", list(oracles()), ids=str)
def test_letters_and_names_are_those_of_the_version(version: tuple[int, int]) -> None:
    """Characters of each version of the Unicode standard from 12.1 to 16.0, and some that none has."""
    old, new = (0x61, 0x370, 0x8BE, 0xB55, 0x870, 0x1ACF), (0x30000, 0x31350, 0x2EBF0, 0xA7CB, 0x105C0, 0x16D70)
    points = (*old, *new, 0x2B739, 0x378, 0x18D00, 0x30FB, 0x200C)
    letters = [form.format(chr(point)) for point in points for form in ("{}", "a{}", "{}a")]
    names = (
        *("BUBBLE TEA", "bubble tea", "CJK UNIFIED IDEOGRAPH-30000", "CJK UNIFIED IDEOGRAPH-4e00", "FVS4", "DIGIT ONE"),
        *("CJK UNIFIED IDEOGRAPH-04E00", "CJK UNIFIED IDEOGRAPH-31350", "HANGUL SYLLABLE GAG", "hangul syllable GAG"),
        *("CJK UNIFIED IDEOGRAPH-2EBF0", "EGYPTIAN HIEROGLYPH-13460", "FACE WITH"),
        *("KHITAN SMALL SCRIPT CHARACTER-18B00", "GARAY SMALL LETTER A"),
        *("MYANMAR LETTER KHAMTI LLA", "KEYCAP DIGIT ONE", "MELTING FACE", "SHAKING FACE", "GARAY DIGIT ZERO"),
    )
    known, oracle = Characters(version), oracles()[version]
    told = oracle.parse_all([*letters, *(f"'\\N{{{name}}}'" for name in names)])
    ours = [*map(known.identifier, letters), *map(known.named, names)]
    assert ours == [problem is None for problem in told]
    for name in names:
        rest = known.ending(name[:-2])
        if known.named(name):
            assert rest is not None and known.named(name[:-2] + rest)
        assert rest is None or known.named(name[:-2] + rest)


_LETTERS = """
import hashlib, sys
def digest(identifier):
    return hashlib.md5(bytes(identifier(chr(p)) + 2 * identifier("a" + chr(p)) for p in range(0x110000))).hexdigest()
if len(sys.argv) == 1:
    print(digest(str.isidentifier))
else:
    sys.path.insert(0, sys.argv[1])
    from validators.characters import Characters
    print(*(digest(Characters((3, minor)).identifier) for minor in range(8, 15)))
"""
"""Prints what every code point may be in a name: as the interpreter sees it, or as it says of all versions."""


@pytest.mark.slow
def test_every_letter_is_that_of_the_version_whatever_runs_the_validator() -> None:
    found = {version: oracle.command[0] for version, oracle in oracles().items() if "node" not in oracle.command[0]}

    def told(version: tuple[int, int], *arguments: str) -> list[str]:
        command = [found[version], "-c", _LETTERS, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    letters = {version: told(version)[0] for version in found}
    for running in found:
        if running >= (3, 11):  # older ones cannot run the validator
            ours = dict(zip(VERSIONS, told(running, str(ROOT)), strict=True))
            assert {version: ours[version] for version in found} == letters
