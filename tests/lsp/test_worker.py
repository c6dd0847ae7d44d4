"""The session's thread, asked from an event loop, without a server around it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest

from assistant.document import Gap
from assistant.errors import ViableError
from assistant.lsp.worker import State, Wanted, Worker
from tests.lsp.fake import FakeSession

LONG = "\n".join(f"name_{i} = {i}" for i in range(200))


def wanted(text: str | list[str], typed: str = "", candidates: int = 1) -> Wanted:
    return Wanted("file:///a.py", Gap(f"#> {json.dumps(text)}\n{typed}", ""), candidates)


@pytest.fixture
async def session() -> FakeSession:
    return FakeSession(pass_ms=2)


@pytest.fixture
async def worker(session: FakeSession) -> AsyncIterator[Worker]:
    """A worker that loads a fake session."""
    worker = Worker(lambda state, message: None)
    worker.start(lambda: session)
    yield worker
    worker.close()
    assert await asyncio.to_thread(worker.join, 10)


async def busy(session: FakeSession) -> None:
    assert await asyncio.to_thread(session.busy.wait, 10)


async def test_candidates_are_distinct_and_the_greedy_one_is_first(worker: Worker, session: FakeSession) -> None:
    assert await worker.fill(wanted(["a", "a", "b", "c"], candidates=3)) == ("a", "b", "c")
    assert [request.temperature == 0 for request in session.requests] == [True, False, False, False]
    assert [request.tries for request in session.requests] == [None, 1, 1, 1], "what is set is for the first"


async def test_no_more_samples_are_drawn_than_allowed(worker: Worker, session: FakeSession) -> None:
    assert await worker.fill(wanted("a", candidates=3)) == ("a",)
    assert len(session.requests) == 5


async def test_the_newest_request_wins_and_the_older_gets_nothing(worker: Worker, session: FakeSession) -> None:
    older = asyncio.create_task(worker.fill(wanted(LONG)))
    await busy(session)
    assert await worker.fill(wanted("b = 1")) == ("b = 1",)
    assert await older == ()
    assert (worker.tally.filled, worker.tally.stopped) == (1, 1)


async def test_a_cancelled_caller_stops_the_decoder(worker: Worker, session: FakeSession) -> None:
    task = asyncio.create_task(worker.fill(wanted(LONG)))
    await busy(session)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    passes = session.passes
    assert worker.idle
    assert await worker.fill(wanted("b = 1")) == ("b = 1",)
    assert worker.tally.stopped == 1
    assert session.passes <= passes + 1 + 2, "one that had begun, and those for the new text"


async def test_what_was_written_is_handed_over_before_anybody_who_waits_goes_on(worker: Worker) -> None:
    order: list[str] = []
    worker.on_texts = lambda wanted, texts: order.append(texts[0])
    await worker.fill(wanted("a = 1"))
    order.append("answered")
    assert order == ["a = 1", "answered"]


async def test_a_fault_is_counted_and_answered_with_nothing(worker: Worker) -> None:
    assert await worker.fill(wanted("fault")) == ()
    assert await worker.fill(wanted("a = 1")) == ("a = 1",)
    assert worker.tally.faults == 1


@pytest.mark.parametrize("error", [ViableError("no such model"), RuntimeError("a fault of ours")])
async def test_a_session_that_cannot_be_opened_is_said_and_nothing_waits_for_it(error: Exception) -> None:
    said: asyncio.Queue[tuple[State, str]] = asyncio.Queue()
    worker = Worker(lambda state, message: said.put_nowait((state, message)))

    def fail() -> FakeSession:
        raise error

    early = asyncio.create_task(worker.fill(wanted("a")))
    worker.start(fail)
    state, message = await said.get()
    assert state == "failed"
    assert str(error) in message
    assert await early == await worker.fill(wanted("a")) == ()


async def test_a_session_that_nobody_wants_any_more_is_not_opened() -> None:
    ready: asyncio.Queue[State] = asyncio.Queue()
    worker = Worker(lambda state, message: ready.put_nowait(state))
    begun, gate, opened = threading.Event(), threading.Event(), list[int]()

    def opener(number: int) -> FakeSession:
        opened.append(number)
        begun.set()
        assert gate.wait(10)
        return FakeSession()

    worker.start(lambda: opener(0))
    assert await asyncio.to_thread(begun.wait, 10)
    for number in (1, 2, 3):
        worker.start(partial(opener, number))
    gate.set()
    assert await asyncio.wait_for(ready.get(), 10) == "ready"
    assert opened == [0, 3]
    worker.close()
    assert await asyncio.to_thread(worker.join, 10)


async def test_requests_before_the_start_wait_for_it() -> None:
    worker = Worker(lambda state, message: None)
    early = asyncio.create_task(worker.fill(wanted("a = 1")))
    await asyncio.sleep(0)
    worker.start(FakeSession)
    assert await early == ("a = 1",)
    worker.close()
    assert await asyncio.to_thread(worker.join, 10)
