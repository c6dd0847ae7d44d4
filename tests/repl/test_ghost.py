"""Suggestions while typing: the model's, never in the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document

from assistant.completion import Request
from assistant.repl import ghost
from assistant.repl.ghost import ModelSuggest
from tests.repl.fake import FakeSession


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghost, "REST", 0.01)


async def suggestion(suggest: ModelSuggest, text: str, cursor: int | None = None) -> str | None:
    found = await suggest.get_suggestion_async(Buffer(), Document(text, cursor))
    return found.text if found else None


def suggesting(answer: str, **options: Any) -> tuple[ModelSuggest, FakeSession]:
    session = FakeSession(lambda before: answer, **options)
    return ModelSuggest(lambda: session, lambda: "import os\n"), session


async def test_the_rest_of_the_line() -> None:
    suggest, session = suggesting("bonacci(n):\n    return n\n")
    assert await suggestion(suggest, "def fi") == "bonacci(n):"
    assert session.requests[0].gap.prefix == "import os\ndef fi"
    assert session.steps < 7, "the model was stopped at the line's end"


async def test_what_is_typed_as_suggested_asks_no_model() -> None:
    suggest, session = suggesting("bonacci(n):\n")
    assert await suggestion(suggest, "def fi") == "bonacci(n):"
    asked = suggest.asked
    for typed in ("b", "bo", "bona", "bonacci(n)"):
        assert await suggestion(suggest, "def fi" + typed) == "bonacci(n):".removeprefix(typed)
    assert suggest.asked == asked == len(session.requests)
    await suggestion(suggest, "def fo")
    assert suggest.asked == asked + 1


@pytest.mark.parametrize(
    ("text", "cursor"), [("", None), ("   ", None), ("x = 1\n    ", None), ("/set", None), ("x = 1", 3)]
)
async def test_where_nothing_is_suggested(text: str, cursor: int | None) -> None:
    suggest, session = suggesting("anything")
    assert await suggestion(suggest, text, cursor) is None
    assert not session.requests


async def test_without_a_session_nothing_is_suggested() -> None:
    assert await suggestion(ModelSuggest(lambda: None, lambda: ""), "x = ") is None


@pytest.mark.parametrize("answer", ["", "\n", "   \n", "'\x1b[2J'", "'\u202e'"])
async def test_what_cannot_be_shown_is_not_suggested(answer: str) -> None:
    suggest, session = suggesting(answer)
    assert await suggestion(suggest, "x = ") is None
    assert session.requests


async def test_a_keystroke_stops_the_model_at_once() -> None:
    suggest, session = suggesting(" 1 +" * 1000, pause=0.01)
    task = asyncio.create_task(suggestion(suggest, "x ="))
    while not session.steps:
        await asyncio.sleep(0.005)
    suggest.cancel()
    steps = session.steps
    await task
    assert session.steps <= steps + 1, "one pass may have begun"


async def test_fast_typing_asks_no_model() -> None:
    suggest, session = suggesting(" 1")
    for length in range(1, 10):
        task = asyncio.create_task(suggestion(suggest, "x" * length))
        await asyncio.sleep(0)
        suggest.cancel()
        await task
    assert not session.requests


class Slow:
    """A session whose every pass takes long."""

    name, device, capacity = "slow", "cpu", 100

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()

    def stream(self, request: Request, interrupt: Callable[[], str | None]) -> Iterator[Any]:
        self.entered.set()
        self.leave.wait(10)
        return iter(())


async def test_the_event_loop_never_waits_for_the_model() -> None:
    """Keys are handled by the event loop: it must turn while the model is deep in a pass."""
    session = Slow()
    suggest = ModelSuggest(lambda: session, lambda: "")
    task = asyncio.create_task(suggestion(suggest, "x ="))
    while not session.entered.is_set():
        await asyncio.sleep(0.005)
    waits = []
    for _ in range(20):
        begin = time.perf_counter()
        await asyncio.sleep(0)
        waits.append(time.perf_counter() - begin)
    session.leave.set()
    await task
    assert sorted(waits)[len(waits) // 2] < 0.01
