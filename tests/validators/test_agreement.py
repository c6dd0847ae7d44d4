"""The validator against the interpreters: real files, CPython's own test snippets, random programs."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pytest

from assistant.bench import corpus, validator_exactness
from assistant.bench.snippets import Version
from tests.validators import fuzz
from tests.validators.corpus import cpython_snippets
from tests.validators.fuzz_checks import Subject
from tests.validators.oracle import RUNNING, missing, oracles
from validators import PythonValidator, ReferenceValidator, Unit
from validators.reference_lines import scan

available = pytest.mark.parametrize("version", list(oracles()), ids=str)
writings = pytest.mark.parametrize("writing", list(corpus.WRITINGS))


def test_what_this_machine_can_judge(capsys: pytest.CaptureFixture[str]) -> None:
    """The running interpreter is always there; which versions nothing here can judge is said in the output."""
    with capsys.disabled():
        print(f" [judged: {len(oracles())} versions, not found: {len(missing())}]", end="")
    assert RUNNING in oracles()


@writings
def test_every_boundary_of_real_files_is_viable(writing: str) -> None:
    sources = corpus.written([*corpus.standard_library(3, 1), *corpus.site_packages(3, 1)], writing)
    count = validator_exactness.wrong_rejections(sources)
    assert count.examples == ()
    assert count.of > 10_000


def test_bad_blocks_are_refused() -> None:
    small = [source for source in corpus.standard_library(20, 2) if len(source.text) < 6_000]
    count = validator_exactness.bad_blocks_accepted(validator_exactness.bad_blocks(small, 60, seed=2))
    assert (count.examples, count.of) == ((), 60)


def test_the_slow_reference_agrees() -> None:
    found = validator_exactness.agreement(corpus.standard_library(10, 3), 500, seed=3)
    assert found.disagreements.examples == ()
    assert found.disagreements.of == 500
    assert found.unproven <= 5


def test_gaps_in_real_files() -> None:
    small = [source for source in corpus.standard_library(30, 4) if len(source.text) < 10_000]
    found = validator_exactness.middles(small, 24, seed=4)
    assert (found.refused.examples, found.completed.examples, found.missed.examples) == ((), (), ())
    assert found.completed.of >= 5 and found.missed.of >= 5


@available
def test_the_test_suite_of_cpython(version: Version) -> None:
    """Each of its snippets, good and bad: complete where it parses, viable as far as the reference says."""
    oracle = oracles()[version]
    snippets = cpython_snippets(oracle)
    if not snippets:
        assert not Path(oracle.library(), "test").exists()
        return
    assert len(snippets) > 500
    subject = Subject(version, oracle)
    failures = [failure for text in snippets[::8] for failure in subject.agrees(text)]
    assert failures == []


@available
def test_a_short_fuzz(version: Version) -> None:
    """A fixed number of cases; `python -m tests.validators.fuzz` runs as long as one likes."""
    failures = [(number, failure) for _, number, failure in fuzz.run(0, 60, [version], count=60)]
    assert failures == []
    assert fuzz.COUNTS[version]["cases"] == 60


@pytest.mark.slow
@available
def test_a_fuzz_of_half_a_minute(version: Version) -> None:
    """The same cases every time, as many as the machine does in 25 seconds."""
    failures = [(number, failure) for _, number, failure in fuzz.run(1, 25, [version])]
    assert failures == []


@pytest.mark.fuzz
@available
def test_a_long_fuzz(version: Version) -> None:
    failures = [(number, failure) for _, number, failure in fuzz.run(2, 300, [version])]
    assert failures == []


def test_fuzz_cases_replay() -> None:
    """A seed and a number name the same text every time."""
    subject = Subject(RUNNING, oracles()[RUNNING])
    first = [fuzz.case_text(subject, 5, number) for number in range(20)]
    assert first == [fuzz.case_text(subject, 5, number) for number in range(20)]
    assert len(set(first)) > 15


def test_shrinking_keeps_what_fails() -> None:
    assert fuzz.shrink("a\nb\nneedle in c\nd\n", lambda text: "needle" in text) == "needle"


def test_both_validators_start_alike_behind_broken_text() -> None:
    """The parts that were stepped over may differ in length, never in their beginning."""
    texts = ("x = (1,\ny = 2\n\ndef f():\n    return ", "if a\n    b\nc = ", "x = 'a\ny = ", "f(]\nz")
    ours, slow = PythonValidator(), ReferenceValidator()
    for text in texts:
        left = ours.problems(ours.start(text))
        right = slow.problems(slow.start(text))
        assert [(p.side, p.offset, p.line, p.column) for p in left] == [
            (p.side, p.offset, p.line, p.column) for p in right
        ]


@cache
def _running() -> PythonValidator:
    return PythonValidator()


@pytest.mark.parametrize("seed", range(20))
def test_middles_may_come_in_any_portions(seed: int) -> None:
    rng = random.Random(seed)
    source = rng.choice(corpus.standard_library(20, 5))
    cut = next(iter(corpus.cuts([source], 1, seed)))
    validator = _running()
    state, at = validator.start(cut.left, cut.right), 0
    while at < len(cut.middle):
        size = rng.choice((1, 2, 7, 40))
        verdict = validator.check(state, cut.middle[at : at + size])
        at += verdict.accepted
        assert verdict.reason is None, cut.middle[at - 20 : at]
        state = verdict.state
    whole = validator.check(validator.start(cut.left, cut.right), cut.middle).state
    assert validator.complete(state) and validator.complete(whole)
    assert validator.closing(state) == validator.closing(whole) == ""


def test_units_end_where_the_reference_ends_them() -> None:
    """Behind every character of 60 places in real files; expressions are compared by hand-made cases instead."""
    rng = random.Random(8)
    sources = [source for source in corpus.standard_library(40, 8) if len(source.text) < 9_000]
    ours, slow = _running(), ReferenceValidator()
    units: tuple[Unit, ...] = ("line", "statement", "block", "function")
    ends = dict.fromkeys(units, 0)
    for _ in range(60):
        text = rng.choice(sources).text
        begin = rng.randrange(len(text))
        fast, right = ours.start(text[:begin]), slow.start(text[:begin])
        if scan(right.line).kind == "comment":
            continue
        for at in range(begin, min(len(text), begin + 120)):
            fast, right = ours.check(fast, text[at]).state, slow.check(right, text[at]).state
            told = {unit: ours.unit_end(fast, unit) for unit in units}
            assert told == {unit: slow.unit_end(right, unit) for unit in units}, (
                text[:begin][-80:],
                text[begin : at + 1],
            )
            for unit in units:
                ends[unit] += told[unit]
    assert min(ends.values()) > 50
