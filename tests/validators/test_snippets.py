"""The snippets hold on the interpreters, and the validator refuses each bad one at its first dead character."""

from __future__ import annotations

from collections import Counter

import pytest

from assistant.bench import snippets
from assistant.bench.snippets import VERSIONS, Version
from tests.validators.oracle import oracles
from validators import PythonValidator, ReferenceValidator

available = pytest.mark.parametrize("version", list(oracles()), ids=str)
known = pytest.mark.parametrize("version", VERSIONS, ids=str)


def test_there_are_many() -> None:
    """Counted, so that a broken reader is noticed."""
    categories = Counter(snippet.category for snippet in snippets.bad())
    assert len(snippets.bad()) > 800 and len(snippets.valid()) > 250
    assert len(categories) >= 15 and min(categories.values()) >= 5
    assert len(set(snippets.bad())) == len(snippets.bad())


@available
def test_the_interpreters_agree_with_the_bad_ones(version: Version) -> None:
    oracle = oracles()[version]
    chosen = [snippet for snippet in snippets.bad() if version in snippet.versions]
    parsing = [s for s, problem in zip(chosen, oracle.parse_all([s.text for s in chosen]), strict=True) if not problem]
    unmended = [s for s, problem in zip(chosen, oracle.parse_all([s.mended for s in chosen]), strict=True) if problem]
    assert (parsing, unmended) == ([], [])


@available
def test_the_interpreters_find_nothing_that_could_follow(version: Version) -> None:
    """The reference of that version refuses the marked character, and no earlier one."""
    oracle = oracles()[version]
    chosen = [snippet for snippet in snippets.bad() if version in snippet.versions]
    told = oracle.viable_all([snippet.text for snippet in chosen])
    early = [snippet for snippet, verdict in zip(chosen, told, strict=True) if verdict.accepted < snippet.dead]
    assert early == []
    if oracle.exact:
        wrong = [snippet for snippet, verdict in zip(chosen, told, strict=True) if verdict.accepted != snippet.dead]
        assert [snippet for snippet in wrong if snippet.category != snippets.LATE] == []


@available
def test_the_interpreters_agree_with_the_valid_ones(version: Version) -> None:
    chosen = snippets.valid()
    parse = oracles()[version].parse_all([snippet.text for snippet in chosen])
    wrong = [s for s, problem in zip(chosen, parse, strict=True) if (problem is None) != (version in s.versions)]
    assert wrong == []


@known
def test_bad_ones_are_refused_at_the_first_dead_character(version: Version) -> None:
    validator = PythonValidator(version)
    wrong = {}
    for snippet in snippets.bad():
        if version in snippet.versions:
            accepted = validator.check(validator.start(""), snippet.text).accepted
            if accepted != snippet.dead:
                wrong[snippet.text] = (snippet.dead, accepted)
    assert wrong == {}


@known
def test_bad_ones_are_refused_there_in_any_two_portions(version: Version) -> None:
    validator = PythonValidator(version)
    begin, wrong = validator.start(""), {}
    for snippet in snippets.bad():
        splits = (
            {snippet.dead // 2, snippet.dead - 2, snippet.dead - 1, snippet.dead} if version in snippet.versions else ()
        )
        for split in (place for place in splits if place > 0):
            first = validator.check(begin, snippet.text[:split])
            second = validator.check(first.state, snippet.text[split:])
            if (first.accepted, second.accepted) != (split, snippet.dead - split):
                wrong[snippet.text] = (snippet.dead, split, first.accepted, second.accepted)
    assert wrong == {}


@known
def test_bad_ones_can_still_be_mended_before_it(version: Version) -> None:
    validator = PythonValidator(version)
    wrong = []
    for snippet in snippets.bad():
        if version in snippet.versions:
            verdict = validator.check(validator.start(""), snippet.mended)
            if verdict.accepted < len(snippet.mended) or not validator.complete(verdict.state):
                wrong.append((snippet.mended, verdict.accepted))
    assert wrong == []


@known
def test_valid_ones_are_complete_exactly_where_they_parse(version: Version) -> None:
    validator = PythonValidator(version)
    wrong = []
    for snippet in snippets.valid():
        verdict = validator.check(validator.start(""), snippet.text)
        complete = verdict.accepted == len(snippet.text) and validator.complete(verdict.state)
        if complete != (version in snippet.versions):
            wrong.append((snippet.text, verdict.accepted, complete))
    assert wrong == []


@pytest.mark.parametrize("position", [0, 1])
def test_the_reference_is_the_one_that_the_interpreters_run(position: int) -> None:
    """In this process and in the oracle's: the same code, the same answers."""
    running = oracles()[ReferenceValidator.version]
    chosen = [snippet.text for snippet in snippets.bad()[position::7]]
    validator = ReferenceValidator()
    here = [validator.check(validator.start(""), text).accepted for text in chosen]
    assert here == [verdict.accepted for verdict in running.viable_all(chosen)]
