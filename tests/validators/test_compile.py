"""Level "compile": held to the real ``compile`` of every interpreter that this machine has."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Sequence
from functools import cache

import pytest

from assistant.bench import corpus, snippets
from assistant.bench.snippets import VERSIONS, Bad, Version
from tests.validators.oracle import RUNNING, oracles
from validators import PythonValidator, TokenValidator

_ASK = """
import ast, json, sys, warnings
warnings.simplefilter("ignore")
def attempt(action):
    try:
        action()
    except (SyntaxError, ValueError) as error:
        return str(error)
    return ""
answers = []
for text in json.load(sys.stdin):
    parsed = attempt(lambda: ast.parse(text))
    answers.append([parsed, attempt(lambda: compile(text, "<text>", "exec", dont_inherit=True))])
json.dump(answers, sys.stdout)
"""


def real(version: Version, texts: Sequence[str]) -> list[list[str]]:
    """What (ast.parse, compile) of that version say against each text; '' where they say nothing."""
    command = [oracles()[version].command[0], "-c", _ASK]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found


@cache
def judged() -> list[Version]:
    return [version for version, oracle in oracles().items() if len(oracle.command) == 3]


def of(version: Version) -> list[Bad]:
    return [snippet for snippet in snippets.compiled() if version in snippet.versions]


@cache
def strict(version: Version) -> PythonValidator:
    return PythonValidator(version, "compile")


def test_there_are_snippets_of_every_category() -> None:
    assert len(snippets.compiled()) >= 80
    assert len({snippet.category for snippet in snippets.compiled()}) >= 12


@pytest.mark.parametrize("version", VERSIONS)
def test_snippets_are_refused_at_the_first_dead_character(version: Version) -> None:
    validator, lenient = strict(version), PythonValidator(version)
    for snippet in of(version):
        assert lenient.check(lenient.start(""), snippet.text).accepted == len(snippet.text), snippet
        verdict = validator.check(validator.start(""), snippet.text)
        assert verdict.accepted == snippet.dead, (snippet, verdict.reason)
        assert verdict.reason
        state, accepted = validator.start(""), 0
        for character in snippet.text:  # character by character as whole
            step = validator.check(state, character)
            if not step.accepted:
                break
            state, accepted = step.state, accepted + 1
        assert accepted == snippet.dead, snippet
        [problem] = validator.problems(validator.start(snippet.text))
        assert problem.offset == snippet.dead


@pytest.mark.parametrize("version", VERSIONS)
def test_snippets_do_not_compile_and_what_they_begin_with_can_be_mended(version: Version) -> None:
    if version not in judged():
        pytest.skip(f"no interpreter for {version}")
    found = of(version)
    for snippet, (parsed, compiled) in zip(found, real(version, [each.text for each in found]), strict=True):
        assert not parsed and compiled, (snippet, parsed, compiled)
    for snippet, (_, compiled) in zip(found, real(version, [each.mended for each in found]), strict=True):
        assert not compiled, (snippet.mended, compiled)
        validator = strict(version)
        state = validator.start(snippet.mended)
        assert not validator.problems(state) and validator.complete(state), snippet.mended


@pytest.mark.parametrize("version", VERSIONS)
def test_real_files_and_their_beginnings_are_accepted(version: Version) -> None:
    """Files that the running interpreter compiles, where the other version's parser accepts them."""
    validator, lenient, rng = strict(version), PythonValidator(version), random.Random(version[1])
    checked = 0
    for source in [*corpus.standard_library(12, version[1]), *corpus.site_packages(12, version[1])]:
        if lenient.problems(lenient.start(source.text)) or len(source.text) > 30_000:
            continue
        state = validator.start("")
        at = 0
        for place in sorted(rng.sample(range(len(source.text)), 30)):
            verdict = validator.check(state, source.text[at:place])
            assert verdict.accepted == place - at, (
                source.name,
                source.text[max(at, place - 80) : place],
                verdict.reason,
            )
            state, at = verdict.state, place
        assert not validator.problems(validator.start(source.text)), source.name
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize("version", [RUNNING])
def test_what_is_complete_compiles(version: Version) -> None:
    """Snippets cut anywhere and closed."""
    validator, texts = strict(version), list[str]()
    for snippet in of(version):
        for cut in range(0, snippet.dead + 1, 3):
            state = validator.start(snippet.text[:cut])
            closing = validator.closing(state)
            if closing is not None:
                texts.append(snippet.text[:cut] + closing)
    assert len(texts) > 500
    wrong = [text for text, (_, compiled) in zip(texts, real(version, texts), strict=True) if compiled]
    assert not wrong


def test_the_right_hand_text_counts() -> None:
    validator = strict((3, 12))
    state = validator.start("def f():\n    ", "\nreturn 1\n")
    assert not validator.complete(validator.check(state, "pass").state)
    state = validator.start("def f():\n    ", "\n    return 1\n")
    assert validator.complete(validator.check(state, "pass").state)


def test_masks_keep_to_the_rules() -> None:
    pieces = [b"return", b"return ", b"x", b"\n", b" 1", b"ed", b"yield\n", b"\xc3", b"a\xc3"]
    tokens = TokenValidator(strict((3, 12)), pieces)
    for left in ("", "return", "def f():\n  return", "x = ", "def f(a, "):
        state = tokens.start(left)
        accepted = [token for token in range(len(pieces)) if tokens.accept_block(state, [token])[0]]
        mask = int.from_bytes(tokens.mask(state), "little")
        assert [token for token in range(len(pieces)) if mask >> token & 1] == accepted


def test_an_unknown_level_is_misuse() -> None:
    with pytest.raises(ValueError, match="'types'"):
        PythonValidator(level="types")
