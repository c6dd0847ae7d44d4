"""The slow validator: that what it leaves out does not matter, that its endings parse, and how much it parses."""

from __future__ import annotations

import random

import pytest

from assistant.bench import corpus
from validators import ReferenceValidator, Unit, reference_judge
from validators.reference_judge import feed, refusal
from validators.reference_outline import Level, Outline

SOURCES = [source for source in corpus.standard_library(60, 7) if len(source.text) < 12_000]
V = ReferenceValidator()


@pytest.mark.parametrize("seed", range(40))
def test_what_the_outline_leaves_out_changes_nothing(seed: int) -> None:
    """The open line, real or spoilt, is judged alike behind the outline and behind the whole text."""
    rng = random.Random(seed)
    text = rng.choice(SOURCES).text
    fed = feed(Outline(), "", text[: rng.randrange(len(text))])
    before = text[: fed.accepted - len(fed.line)]
    whole = Outline((Level((0, 0), "", before),))
    for tail in (
        "",
        "x",
        ")",
        "\n",
        ": pass\n",
        " else",
        "\n  y",
        "'",
        *corpus.spoilt(rng, text[fed.accepted :][:60]).split(),
    ):
        line = fed.line + tail
        assert (refusal(fed.outline, line) is None) == (refusal(whole, line) is None), (before[-200:], line)


@pytest.mark.parametrize("writing", list(corpus.WRITINGS))
def test_real_files_are_viable_and_complete(writing: str) -> None:
    for source in corpus.written(SOURCES[:6], writing):
        state = V.start(source.text)
        assert V.problems(state) == () and V.complete(state), source.name


def test_endings_parse_and_are_nearly_always_found() -> None:
    rng = random.Random(1)
    found = 0
    for _ in range(80):
        text = rng.choice(SOURCES).text
        left = text[: rng.randrange(len(text))]
        ending = V.closing(V.start(left))
        found += ending is not None
        assert ending is None or corpus.parses(left + ending)
    assert found >= 77


def test_endings_before_a_right_hand_text() -> None:
    found = 0
    for cut in corpus.cuts(SOURCES, 60, seed=2):
        state = V.start(cut.left, cut.right)
        assert V.problems(state) == ()
        ending = V.closing(state)
        found += ending is not None
        assert ending is None or corpus.parses(cut.left + ending + cut.right)
        assert V.complete(V.check(state, cut.middle).state)
    assert found >= 30  # it closes what is open on the left; more than half of the gaps need no more


def test_complete_counts_the_right_hand_text() -> None:
    state = V.start("x = (1, ", ")\ny = 2\n")
    assert V.complete(V.check(state, "2").state)
    assert not V.complete(V.check(state, "2)").state)
    assert V.check(state, "2 3").accepted == 2


@pytest.mark.parametrize(
    ("left", "where"),
    [
        ("x = (1,\ny = 2\n\ndef f():\n    return ", (2, 4)),
        ("if a\n    b\nc = ", (1, 5)),
        ("x = 'a\ny = ", (1, 7)),
        ("a = 1\r\nb = $\r\nc = ", (2, 5)),
        ("def f():\n    x = = 1\n    y = ", (2, 9)),
        ("class A:\n    def f(self):\n      x\n     y\n\n    def g(self):\n        return ", (4, 6)),
    ],
)
def test_a_broken_left_text_is_stepped_over(left: str, where: tuple[int, int]) -> None:
    state = V.start(left)
    [problem] = V.problems(state)
    assert (problem.side, problem.line, problem.column) == ("left", *where)
    verdict = V.check(state, "z + 1\n")
    assert verdict.reason is None and V.complete(verdict.state)
    assert V.check(state, ")").accepted == 0


def test_a_broken_right_text_is_ignored_from_where_it_breaks() -> None:
    right = "\ny = 2\ndef f(:\n    pass\nz = 3\n"
    state = V.start("x = ", right)
    [problem] = V.problems(state)
    assert (problem.side, problem.offset, problem.line, problem.column) == ("right", right.index("def"), 3, 1)
    assert V.complete(V.check(state, "1").state)


def test_characters_that_no_file_can_contain() -> None:
    for bad in ("\0", "\ud800", "\udfff"):
        assert V.check(V.start(""), f"x = 1{bad}y").accepted == 5
        assert V.check(V.start("x = '"), f"a{bad}").accepted == 1
    assert V.complete(V.check(V.start("\ufeffx = "), "1").state)
    assert V.check(V.start(""), "\ufeff").accepted == 0


@pytest.mark.parametrize("portion", [1, 2, 5])
def test_portions_are_the_whole_with_carriage_returns(portion: int) -> None:
    text = "if x:\r\n\ty = 'a\\\r\nb'\r\n\tz = \\\r\n\t\t(1,\r\n2)\r\n\x0celse:\r\n    '''\r\n'''\r\n"
    state = V.start("")
    for at in range(0, len(text), portion):
        verdict = V.check(state, text[at : at + portion])
        assert verdict.reason is None, text[:at]
        state = verdict.state
    assert V.complete(state)
    assert V.check(V.start(""), text).state == state


def test_deep_nesting_ends_in_an_answer() -> None:
    assert V.check(V.start(""), "(" * 100_000).accepted == 200
    deep = "".join(" " * depth + "if x:\n" for depth in range(150))
    verdict = V.check(V.start(""), deep + " " * 150 + "y")
    assert deep.count("\n", 0, verdict.accepted) == 100
    assert V.check(V.start("x = '"), "a" * 1_000_000).accepted == 1_000_000


@pytest.mark.parametrize("blocks", [5, 500])
def test_a_check_parses_no_more_in_a_longer_file(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: characters given to the parser, not time."""
    parsed: list[int] = []
    outcome = reference_judge.outcome

    def counted(text: str, flags: int) -> str:
        parsed.append(len(text))
        return outcome(text, flags)

    state = V.start(
        "class A:\n" + "    def f(self):\n        return [1, 2, 3]\n\n" * blocks + "    def g(self):\n        return "
    )
    monkeypatch.setattr(reference_judge, "outcome", counted)
    for text in ("self.x", "(1, 2)", "[0]\n"):
        verdict = V.check(state, text)
        assert verdict.reason is None
        state = verdict.state
    assert sum(parsed) < 2_000


@pytest.mark.parametrize(
    ("left", "text", "unit", "ends"),
    [
        ("x = ", "1", "line", False),
        ("x = ", "1\n", "line", True),
        ("x = ", "(1,\n", "line", True),
        ("x = ", "(1,\n", "statement", False),
        ("x = ", "(1,\n2)\n", "statement", True),
        ("x = ", "1; ", "statement", True),
        ("x = ", "';'", "statement", False),
        ("if x:\n", "    y\n", "statement", True),
        ("", "if x:\n    y\n", "statement", False),
        ("", "if x:\n    y\nel", "statement", False),
        ("", "if x:\n    y\nz", "statement", True),
        ("if x:\n    ", "y\n    z\n", "block", False),
        ("if x:\n    ", "y\nelse", "block", True),
        ("def f():\n    ", "y\n\n    z\n", "function", False),
        ("def f():\n    ", "if x:\n        y\n    z\n\nx", "function", True),
        ("", "def f(): pass\nx", "function", True),
        ("class A:\n    def f(self):\n        ", "x\n\n    def", "function", True),
        ("x = ", "a + b", "expression", False),
        ("x = ", "f(a, b)[c:d]", "expression", False),
        ("x = ", "f(a)\n", "expression", True),
        ("f(", "a, ", "expression", True),
        ("f(", "g(a, b)", "expression", False),
        ("f(", "g(a))", "expression", True),
        ("x = ", "'a, b'", "expression", False),
    ],
)
def test_where_units_end(left: str, text: str, unit: Unit, ends: bool) -> None:
    verdict = V.check(V.start(left), text)
    assert verdict.reason is None
    assert V.unit_end(verdict.state, unit) == ends


def test_states_are_values() -> None:
    state = V.start("x = ")
    first, second = V.check(state, "1"), V.check(state, "1")
    assert first == second and hash(first.state) == hash(second.state)
    assert V.check(state, "").state == state
    assert V.complete(first.state) and not V.complete(state)
