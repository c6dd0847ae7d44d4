"""When the server speaks up unasked."""

from __future__ import annotations

import pytest

from assistant.document import Gap
from assistant.lsp.options import Options, parse
from assistant.lsp.trigger import LONGEST, SHORTEST, USUAL, Pace, quiet


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("x = ", "", False),
        ("x = ", "\nmuch text on the next line", False),
        ("pri", "nt(x)", True),
        ("x", "_y", True),
        ("x", "é", True),
        ("f(", ")", False),
        ('f(["', '"]): # )]}', False),
        ("f(", ", other_argument)", True),
        ("f(", ", argument)\r\n", False),
        ("f(", " + b)\rand more of it", False),
    ],
)
def test_quiet(left: str, right: str, expected: bool) -> None:
    assert quiet(Gap(left, right), max_right=8) is expected


def test_a_slow_typist_is_waited_for_longer_and_within_bounds() -> None:
    pauses = []
    for interval in (0.001, 0.1, 0.3, 0.9):
        pace, now = Pace(), 0.0
        for _ in range(50):
            pace.edited(now := now + interval)
        pauses.append(pace.pause(Gap("x = ", ""), now))
    assert pauses[0] == SHORTEST
    assert pauses[1] == pytest.approx(0.1, rel=0.01)
    assert pauses[2] == pytest.approx(0.3, rel=0.01)
    assert pauses[3] == LONGEST


def test_a_word_may_go_on_where_a_bracket_does_not() -> None:
    pace = Pace()
    pace.edited(5.0)
    assert pace.pause(Gap("nam", ""), 5.0) > pace.pause(Gap("name(", ""), 5.0) == USUAL


def test_a_break_is_no_pace_and_the_pause_is_over_when_it_has_passed() -> None:
    pace = Pace()
    for now in (0.0, 60.0, 120.0):
        pace.edited(now)
    assert pace.pause(Gap("(", ""), 120.0) == USUAL
    assert pace.pause(Gap("(", ""), 120.1) == pytest.approx(USUAL - 0.1)
    assert pace.pause(Gap("(", ""), 121.0) == 0.0
    assert Pace().pause(Gap("(", ""), 7.0) == 0.0


@pytest.mark.parametrize(
    ("glob", "uri", "served"),
    [
        ("*.py", "file:///project/a.py", False),
        ("secret*.py", "file:///project/deep/secret_key.py", False),
        ("secret*.py", "file:///project/a.py", True),
        ("**/vault/*.py", "file:///project/vault/a.py", False),
        ("vault/*.py", "file:///project/vault/a.py", False),
        ("/project/vault/*", "file:///project/vault/deep/a.py", False),
        ("/vault/*", "file:///project/vault/a.py", True),
        ("with space/*.py", "file:///project/with%20space/a.py", False),
    ],
)
def test_globs_switch_files_off(glob: str, uri: str, served: bool) -> None:
    assert Options(exclude=(glob,)).serves(uri, "python") is served


def test_languages() -> None:
    options = Options()
    assert options.serves("file:///a.py", "python")
    assert options.serves("untitled:Untitled-1", "python")
    assert options.serves("file:///a.pyi", "")
    assert not options.serves("file:///a.py", "markdown")
    assert not options.serves("file:///a.txt", "")
    assert not options.serves("file://[half/an/address", "python")
    assert not Options(enabled=False).serves("file:///a.py", "python")


def test_options_are_laid_over_those_that_hold() -> None:
    base = parse({"maxMs": 10, "unknown": 1}, Options())
    assert base == Options(max_ms=10)
    assert parse({"exclude": ["*.py"]}, base) == Options(max_ms=10, exclude=("*.py",))
    assert parse(None, base) is base


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "options: an object is wanted, not list"),
        ({"candidates": 0}, "options: candidates must be at least 1, not 0"),
        ({"maxTokens": 0}, "options: maxTokens must be at least 1, not 0"),
        ({"tries": 0}, "options: tries must be at least 1, not 0"),
        ({"debounceMs": -1}, "options: debounceMs must be at least 0, not -1"),
        ({"debounceMs": "soon"}, "options: Expected `int | null`, got `str` - at `$.debounceMs`"),
    ],
)
def test_options_that_make_no_sense_are_named(values: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(values, Options())
    assert str(caught.value) == message
