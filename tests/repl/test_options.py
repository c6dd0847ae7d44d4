"""What can be set, and what the toolbar says."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from assistant.completion import Cancel, Completion, Request
from assistant.document import Gap
from assistant.errors import UsageProblem, ViableError
from assistant.repl.loading import Loader
from assistant.repl.notes import folded, toolbar
from assistant.repl.options import PER_REQUEST, Options, changed
from assistant.repl.screen import theme_style, themes
from assistant.settings import DEFAULT_MODEL, Settings
from tests.repl.fake import FakeSession


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(("temperature", "0.5", 0.5), ("max_tokens", "17", 17), ("model", "a b", "a b"), ("offline", "on", True)),
        *(("ghost", "off", False), ("ghost", "YES", True), ("stop", "model", "model"), ("seconds", "2", 2.0)),
    ],
)
def test_values_are_read(name: str, value: str, expected: object) -> None:
    settings, options = changed(Settings(), Options(), name, value)
    assert getattr(options if name in Options.__struct_fields__ else settings, name) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", "warm"), ("max_tokens", "1.5"), ("max_tokens", "0"), ("top_p", "2"), ("ghost", "maybe")),
        *(("stop", "now"), ("colour", "red"), ("device", "abacus"), ("seconds", "0"), ("megabytes", "-3")),
    ],
)
def test_wrong_values_are_misuse(name: str, value: str) -> None:
    with pytest.raises(UsageProblem):
        changed(Settings(), Options(), name, value)


def test_names_are_not_ambiguous() -> None:
    assert not set(Settings.__struct_fields__) & set(Options.__struct_fields__)
    assert set(Settings.__struct_fields__) >= PER_REQUEST


def test_every_theme_colours_keywords() -> None:
    names = list(themes())
    assert len(names) > 10
    plain = {"bw", "sas", "algol", "algol_nu"}
    for name in names:
        attributes = theme_style(name).get_attrs_for_style_str("class:pygments.keyword")
        assert attributes.color or attributes.bold or name in plain, name


def last_completion() -> Completion:
    session = FakeSession(lambda before: "    return 1\n")
    (*_, last) = session.stream(Request(Gap("def f():\n", "")), Cancel())
    assert last.completion
    return last.completion


def bar(columns: int, *, model: str = "m", device: str | None = "cpu", **more: Any) -> str:
    fields = {"completion": None, "refusal": None, "capacity": 99, "hint": "/help", **more}
    return "".join(text for _, text in toolbar(model=model, device=device, columns=columns, **fields))


def test_the_toolbar() -> None:
    assert bar(80, device=None) == "m · loading, type on · ✓ parses · /help"
    ready = bar(80, completion=last_completion(), refusal="1:5: bad")
    assert ready == "m · cpu · 42.5 tokens/s · ✗ 1:5: bad · context 13/99 · /help"
    assert bar(80, problem="no such model", hint="").startswith("m · cpu · ✓ parses · no such model")


def test_the_toolbar_of_the_default_model_fits_a_narrow_terminal() -> None:
    last = last_completion()
    for columns, expected in (
        (90, "qwen2.5-coder-0.5b-instruct · cpu · 42.5 tokens/s · ✓ parses · context 13/4096 · /help"),
        (78, "qwen2.5-coder-0.5b… · cpu · 42.5 tokens/s · ✓ parses · context 13/4096 · /help"),
        (50, "qwen2.5-coder-… · cpu · ✓ parses · context 13/4096"),
        (38, "qwen2.5-coder-0.5b-instruct · ✓ parses"),
        (25, "qwen2.5-coder… · ✓ parses"),
    ):
        shown = bar(columns, model=DEFAULT_MODEL, completion=last, capacity=4096)
        assert len(shown) <= columns
        assert "✓ parses" in shown
        assert shown == expected


def test_notes_are_broken_between_words() -> None:
    rows = folded([("class:note", "/trace  "), ("", "show each block: drafted, viable,  ")], 24, 8)
    assert ["".join(text for _, text in row) for row in rows] == [
        "/trace  show each block:",
        "        drafted, viable,",
    ]
    assert rows[0] == [("class:note", "/trace  "), ("", "show each block:")]
    assert ["".join(text for _, text in row) for row in folded([("", "a" * 9)], 4, 1)] == ["aaaa", " aaa", " aa"]
    assert folded([], 10, 0) == [[]]


class Gate:
    """Opens sessions when it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.changes = 0
        self.loader = Loader(self.opener, self.changed)

    def opener(self, settings: Settings) -> FakeSession:
        if settings.model == "missing":
            raise ViableError("missing")
        if settings.model == "slow":
            self.open.wait(10)
        if settings.model == "bug":
            raise ZeroDivisionError("a bug")
        session = FakeSession(lambda before: "")
        session.name = settings.model
        return session

    def changed(self) -> None:
        self.changes += 1


def test_loading_can_be_waited_for_and_given_up() -> None:
    gate = Gate()
    gate.loader.start(Settings(model="slow"))
    assert gate.loader.busy
    cancel = Cancel()
    cancel.set()
    assert gate.loader.wait(cancel) is None
    gate.open.set()
    session = gate.loader.wait(Cancel())
    assert session is not None
    assert session.name == "slow"
    assert not gate.loader.busy


def test_the_newest_wish_wins() -> None:
    gate = Gate()
    gate.loader.start(Settings(model="slow"))
    gate.loader.start(Settings(model="quick"))
    session = gate.loader.wait(Cancel())
    assert session is not None
    assert session.name == "quick"
    gate.open.set()
    time.sleep(0.05)
    assert gate.loader.session is session
    assert gate.changes == 1


@pytest.mark.parametrize("model", ["missing", "bug"])
def test_a_failure_is_told_and_the_old_session_stays(model: str) -> None:
    gate = Gate()
    gate.loader.start(Settings(model=model))
    with pytest.raises(ViableError, match=model):
        gate.loader.wait(Cancel())
    gate.loader.start(Settings(model="good"))
    good = gate.loader.wait(Cancel())
    gate.loader.start(Settings(model=model))
    assert gate.loader.wait(Cancel()) is good
    assert gate.loader.error is not None
