"""What fuzzing found once: each text is true to the interpreters now, and stays so."""

from __future__ import annotations

import random
from functools import cache

import pytest

from assistant.bench.snippets import VERSIONS, Version
from tests.validators.fuzz_checks import Subject
from tests.validators.oracle import oracles
from validators import PythonValidator, ReferenceValidator

OLD, NEW = (3, 8), (3, 14)

PARSES: dict[str, tuple[Version, Version] | None] = {
    # leading zeros are complained about where no exponent begins, and 'else' begins like one
    "x = 1 if y else 0xfor 1": (OLD, NEW),
    "x = 1 if 01else 2": (OLD, NEW),
    "x = 1if~01else 3": (OLD, NEW),
    "x = 01or 2": None,
    "0" * 4400: (OLD, NEW),  # the limit of digits is not for zeros
    # behind a text that ends in CRLF the tokenizer sees one more line end
    "x \\\r\n": (OLD, (3, 11)),
    "\\\r\n": (OLD, (3, 11)),
    "if x:\r\n  y \\\r\n": (OLD, (3, 11)),
    "x \\\n": None,
    "x \\\r": None,
    # a backslash in the indentation begins the line in 3.8
    "if a:\n  b\n\\\n\nelse: c\n": ((3, 9), NEW),
    "if a:\n  b\n  \\\n\n  c\n": ((3, 9), NEW),
    "\\\n\nx\n": (OLD, NEW),
    "\\\n# c\n": (OLD, NEW),
    "@d\n\\\n\ndef f(): pass\n": ((3, 9), NEW),
    # (*x) is an operand in 3.8, but no element of a comprehension; (x) can be bound there
    "[(*x) for x in y]": None,
    "[((*x)) for x in y]": None,
    "f((*x) for x in y)": None,
    "[(*x).y for x in y]": (OLD, OLD),
    "[-(*x) for x in y]": (OLD, OLD),
    "f'{(*x) for x in y}'": None,
    "@a(b for c in d)\nclass e: f": (OLD, NEW),
    "@a(b for c in d, 1)\nclass e: f": None,
    "class a(b for c in d): e": None,
    "((x) := 1)": (OLD, OLD),
    "f(((x)) := 1)": (OLD, OLD),
    "x[(y) := 1]": None,
    # a format behind a line's end, and behind a field in it
    "f'{x:\n{b}}'": ((3, 12), (3, 13)),
    "f'{x:a\n}'": ((3, 12), (3, 13)),
    "f'{x:\n{lambda x: 1}{b!r:{c}}}'": ((3, 12), (3, 13)),
    "f'{x:\n{b! r}}'": None,
    "f'{x:\na}'": None,
    "f'{x!r\\\n}'": ((3, 12), NEW),
    "f'''{x:\n{b}}'''": ((3, 8), NEW),
    "f'{x:{c}{{}'": ((3, 12), NEW),
    "f'{x:{c}{{d}}}'": (OLD, NEW),
    "f'{x:{c}{{d}}'": None,
    "f'{x:{{c}}}'": (OLD, NEW),
    # before 3.12 three quotes end a string, whatever they stand in
    "f'''{f(x, \"y''\")}'''": (OLD, NEW),
    "f'''{f(x, \"y'''\")}'''": ((3, 12), NEW),
    "f'''{f\"{x}''{y:''}\"}'''": (OLD, NEW),
    "f'''{f'{x}'''and c}'''": ((3, 12), NEW),
    "f'''{f'{x}' 'a' \"b\"}'''": (OLD, NEW),
    "f'''{f'{x}''a'}'''": (OLD, NEW),
    "fr'{x:\\x41\\d\\{y}}'": (OLD, NEW),
    # what begins like the prefix of a string is refused before the quote that it cannot have
    "f'{a=u'": None,
    "fr'{F\"{x}\" b'x'}'": None,
    # since 3.9 a target in brackets is the whole of what is annotated
    "(f)[0]: t": (OLD, OLD),
    "(f.x).g().h: t = 1": (OLD, OLD),
    "((f))[:]: t": (OLD, OLD),
    "((f)[0]): t": (OLD, NEW),
    "(f())[0]: t": (OLD, NEW),
    "(f, g).h: t": (OLD, NEW),
    "(not f).g: t": (OLD, NEW),
    "(f)[0] += 1": (OLD, NEW),
    # in 3.8 a lambda may be a condition, in a lambda too, and __debug__ is told from other names as it is kept
    "[x for y in z if lambda: lambda w: v]": (OLD, OLD),
    "[x for y in z if lambda: v if w]": (OLD, OLD),
    "[x for y in z if lambda: v if w else u]": None,
    "f(__\uff44ebug__=1)": ((3, 9), NEW),
    "__debu\uff47__ = 1": ((3, 9), NEW),
    "__debu\uff47_ = 1": (OLD, NEW),
    # a keyword of 3.9 alone
    "__peg_parser_ = __peg_parser__x": (OLD, NEW),
    "x = __\uff50eg_parser__": (OLD, NEW),
    # in 3.9 the line counts as indented like the one before it
    " \\\nif x: y\nelif x:\n c\n": ((3, 9), (3, 9)),
}
"""Text -> the first and the last version that accepts it (of 3.12 the last releases)."""

GAPS = {
    'rb"a\\': '\nd"',
    "f'{{": "}}'",
    "f'\\N{EM ": "DASH}'",
    "x = f'a\\": "\n{b}'",
    "match": ":\n case '': pass",
    "x = [(u'é' if {(.5) or 1.": "mbda_, (0o17),} else y)]\nz\n",
    "x = (y, (z if": '"}}", self.type,), (lambda: b))\n',
    "return (lambd": " a=(b, c), *d: e)\n",
    "f(p85=(lambda p40, *args, p10N": "*kw: no): True)\n",
    "return (l": "48, *args, p88=(a := b): 1), c\n",
    # what is open goes on behind a backslash
    'f"\\lambda: ': '\n"',
    "  \n\n\nxlambda ^caseNone ;++ True != '{<%. ^& n": "\n *^[\\\nis @^.<not '",
    "'a": "\n'",
    "b'a": "\r\n'\r\n",
    "r'a": "\nb'",
    "rb'a\\": "\n'",
    "x = [f'{y}{'z'}a": "\r\n']",
    "u'\\x4": "\r'",
    "'\\N{EM DA": "\n'",
    "x = 1 ": "\na'\n",
    "import a": "\n as b\nimport c\n",
    # the lines that follow need blocks and partners that the gap has not got
    "@a": '"b")\n        return c\n    except d:\n        pass\ne\n',
    "def a():\n    b\nif c": "   d = 1\n        e\n    finally:\n        f\ng\n",
    "a = 1\n": " in b:\n            c\n        if d:\n            e\n",
    "a = [\n    b(c),\n": "  'd', 'e'), f=1), g),\n]\n",
    "if a:\n    b\nelif (\n    c\n):\n": "        and d(e)\n    ):\n        f\ng\n",
    "a = 1  # e": "xcept b as c:\n            d\n        e\nf\n",
    "a\n": "    finally:\n        b\n    c\n",
    "def a(): pass\n": "    'b'\n    'c', 'd': 'e'})\nf\n",
    "a = 1\nb": " c'),\n        (d, e(f, g)),\n    ],\n    'h': [i]}\n",
    "@a\ndef b": "c)\n        d('''\ne''')\n\n    f\ng\n",
}
"""Left of a gap -> right of it."""


CLOSED = (
    'Rf\'x{"a"r',  # before 3.12 the next string cannot have the quotes of the f-string around it
    "f\"{'a'B",
    'fr"""{"a"\'b\'u',
)
"""Left texts that something has to close, as far as they are viable."""

validator_of = cache(PythonValidator)


@pytest.mark.parametrize("text", PARSES, ids=range(len(PARSES)))
def test_texts_are_complete_in_the_versions_that_accept_them(text: str) -> None:
    first, last = PARSES[text] or (NEW, OLD)
    complete = []
    for version in VERSIONS:
        validator = validator_of(version)
        verdict = validator.check(validator.start(""), text)
        if verdict.accepted == len(text) and validator.complete(verdict.state):
            complete.append(version)
    assert complete == [version for version in VERSIONS if first <= version <= last]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_one_keyword_stands_nowhere(version: Version) -> None:
    validator = validator_of(version)
    for text in ("__peg_parser__ = 1", "x.__peg_parser__;", "f'{__peg_parser__}'", "def __peg_parser__(): pass"):
        accepted = validator.check(validator.start(""), text).accepted
        assert (accepted == len(text)) == (version != (3, 9))
        if version in oracles():
            assert (oracles()[version].parse(text) is None) == (version != (3, 9))


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_raw_f_strings_have_escapes_in_their_formats_in_3_12_and_3_13(version: Version) -> None:
    validator = validator_of(version)
    for text, dead in (("fr'{x:\\x}'", 8), ("fr'{x:\\N{y}}'", 7), ("fr'{x:{y}\\u12g}'", 13)):
        accepted = validator.check(validator.start(""), text).accepted
        assert accepted == (dead if version in ((3, 12), (3, 13)) else len(text))
        if version in oracles():
            assert (oracles()[version].parse(text) is None) == (accepted == len(text))


@pytest.mark.parametrize("version", list(oracles()), ids=str)
def test_the_interpreters_agree(version: Version) -> None:
    subject = Subject(version, oracles()[version])
    failures = [failure for text in PARSES for failure in subject.text(text, random.Random(0))]
    assert failures == []


@pytest.mark.parametrize("version", list(oracles()), ids=str)
def test_gaps_are_closed_wherever_they_can_be(version: Version) -> None:
    validator, oracle = validator_of(version), oracles()[version]
    for left, right in GAPS.items():
        if validator.check(validator.start(""), left).accepted < len(left):
            continue  # of another version
        state = validator.start(left, right)
        closing = validator.closing(state)
        known = oracle.joining(left, right)
        assert validator.problems(state) == () or known is None, (left, right)
        assert closing is not None or known is None, (left, right, known)
        if closing is not None and not validator.problems(state):
            assert oracle.parse(left + closing + right) is None, (left, closing, right)


@pytest.mark.parametrize("version", list(oracles()), ids=str)
def test_left_texts_are_closed(version: Version) -> None:
    validator = validator_of(version)
    for left in CLOSED:
        accepted = validator.check(validator.start(""), left).accepted
        closing = validator.closing(validator.start(left[:accepted]))
        assert closing is not None
        assert oracles()[version].parse(left[:accepted] + closing) is None


def test_what_was_refused_for_its_depth_is_not_refused_elsewhere() -> None:
    """Reading is remembered by the place in the line; how deep the blocks are is not part of that."""
    validator = PythonValidator()
    deep = "".join(" " * level + "class c:\n" for level in range(99)) + " " * 99 + "class c:"
    for ending in ("\n", "# c\n"):
        state = validator.check(validator.start(""), deep).state
        assert validator.check(state, ending).accepted == 0
        assert validator.check(validator.check(validator.start(""), "class c:").state, ending).accepted == len(ending)
        assert validator.check(state, ending).accepted == 0


def test_brackets_around_an_f_string_do_not_count_in_its_fields_before_3_12() -> None:
    text = "(" * 200 + "f'{(x)}'" + ")" * 200
    for version in VERSIONS:
        validator = validator_of(version)
        assert (validator.check(validator.start(""), text).accepted == len(text)) == (version < (3, 12))


def test_the_reference_reads_lone_carriage_returns() -> None:
    """A backslash at the beginning of a line behind one was once too much for it."""
    validator = ReferenceValidator()
    for text in ("if x: y\r\\\nx; y\n", "@d\r\\\nx", "@f(\n1)\ndef g(): pass\n"):
        assert 0 < validator.check(validator.start(""), text).accepted <= len(text)
