"""Gaps are closed before whatever ends some program, wherever in it the right-hand text begins."""

from __future__ import annotations

import itertools

import pytest

from assistant.bench.snippets import Version
from tests.validators.oracle import oracles
from validators import PythonValidator
from validators.beginnings import Beginnings
from validators.closing import Closer

PROGRAMS = (
    "raise E(\n    f\"{', '.join(f'{k}' for k, v in a)} s\"\n) from e\n",
    "with swap(a, 'b') as wmock, \\\n     open(c, create=True) as d:\n    with e as f, g:\n        h\n",
    'def f(a: int = 1, *b: c, d=f"{e!r:>{w}}") -> None:\n    """Says\n\n    "it\'s" so."""\n    yield from a\n',
    "match a, b:\n    case {'a': [B(c=1), *d], **e} if f:\n        g(\n            h)\n    case C.d | -1 as i: pass\n",
    "try:\n    a\nexcept (b, c) as d:\n    e\nelse:\n    f\nfinally:\n    g\nh = i\n",
    "for a, (*b, c) in d[1:, ::2]:\n    if e: f(g=1, **h)\n    elif (i := j):\n        k\nelse:\n    l.m @= -n\n",
    "@a(f'{b}', d=\"e\")\nclass g(h, i=j): k: l[m] = {n: o, **p} | {q for r in s if t}\n",
    "x = [u'a', b'\\x00' rb'\\d', 0x_f, 1e-5j, lambda *y, z=1: ..., not w is not v, '''\n''']\n",
    "del a[0], (b, [c.d])\nimport e.f as g, h\nfrom ..i import (j as k, l)\nglobal m; assert n, o; p if q else r\n",
)
NESTED = (
    "x = f(f\"a {f'b {x['a']} c'} {\"b\"} d\", y)\n",
    "g(f\"{f'''{z[\"k\"]:>{w['q']}} it's'''} {\"q\"!r} t\",\n  'x', b=\"y\")\n",
    "with open(f\"{d}/{f'{e}' + \"x\"}\") as f, g(f'{h!r:{i}}'):\n    type T[*U] = V\n",
    "x = f'''{\na\n}{b['c']\n} \" {\"d\"} '''\ndef f[T: (int, str)](): pass\n",
)
"""Since 3.12."""
TEMPLATES = ("x = f(t\"a {t'b {x['a']} c'} {\"b\"!r:>{w}} d\" t'e', y)\n", "raise E(\n  t'{a}' rt'\\d{b=}'\n) from e\n")
"""Since 3.14."""
LEFTS = ("", "x = (", "if x:\n    y = [", "def f():\n    return g(a, ", "class A:\n\tx = 'a\\")


def _programs(version: Version) -> list[str]:
    later = [*(NESTED if version >= (3, 12) else ()), *(TEMPLATES if version >= (3, 14) else ())]
    return [text for text in PROGRAMS if version >= (3, 10) or "match" not in text] + later


@pytest.mark.parametrize("version", [(3, 8), (3, 11), (3, 12), (3, 14)], ids=str)
def test_ends_of_programs_can_be_joined(version: Version) -> None:
    """Every third, other ones in every version."""
    validator, oracle = PythonValidator(version), oracles().get(version)
    lefts = itertools.cycle(LEFTS)
    for text in _programs(version):
        assert validator.complete(validator.start(text)), text
        for cut in range(1 + version[1] % 3, len(text), 3):
            left, right = next(lefts), text[cut:]
            state = validator.start(left, right)
            closing = validator.closing(state)
            assert validator.problems(state) == () and closing is not None, (left, right)
            verdict = validator.check(state, closing)
            assert verdict.accepted == len(closing) and validator.complete(verdict.state), (left, closing, right)
            assert oracle is None or oracle.parse(left + closing + right) is None, (left, closing, right)


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ('a {x}"\n) from err\n', 'raise("'),
        ("s a, \\\n  b() as c:\n    pass\n", "with x a"),
        ("a=True), \\\n  b:\n    pass\n", "with x("),
        (", **rest}:\n    pass\n", "if{**x"),
        ("a: b, **kw) -> d: pass\n", "def x("),
        ('x}\'} {"q"!r} c", y)\n', "(f\"{'"),
        (":>{w['p']}}'} {\"q\"!r} c\"]\n", "[f\"{f'{x:"),
    ],
)
def test_the_lightest_beginnings_come_first(right: str, expected: str) -> None:
    validator = PythonValidator((3, 12))
    closer = Closer(validator.scanner)
    found = list(itertools.islice(Beginnings(validator.scanner, closer.costs).of(right), 3))
    assert expected in found
    for beginning in found:
        verdict = validator.check(validator.start(""), beginning + right)
        assert verdict.accepted >= len(beginning) + len(right.removesuffix("    pass\n")), beginning


def test_blocks_are_opened_for_what_the_right_hand_text_comes_back_to() -> None:
    validator = PythonValidator((3, 11))
    for left, right in (
        ("a\n", "            b\n        case c:\n            d\n    else:\n        e\n    finally:\n        f\n"),
        ("a\n", "          b\n        case c:\n            d\n    case e:\n        f\ng\n"),
        ("def f():\n    if a:\n        return N", "          b\n        case c:\n            d\n"),
        (
            "class a:\n    def b(self):\n  ",
            "y we use\n        c\n        return\n    # d\n    try:\n        e\n    finally: f\n",
        ),
        ("x\n", "  a\n else:\n  b\n finally:\n  c\n"),
        ("x\n", "\t\ta\n\texcept* b:\n\t\tc\nd\n"),
        ("match x:\n  ", "lse:\n        a\n    case b:\n        c\n"),
    ):
        state = validator.start(left, right)
        closing = validator.closing(state)
        assert closing is not None, (left, right)
        assert oracles()[(3, 11)].parse(left + closing + right) is None, (left, closing, right)
