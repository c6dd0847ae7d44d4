"""Cancelled and superseded requests: answered at once, and the decoder stands still."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.lsp.client import Client, fake_server, insertion

pytestmark = pytest.mark.e2e

PASS_MS = 5
LONG = "\n".join(f"name_{i} = {i}" for i in range(200))
CANCELLED = -32800
AT_ONCE = 0.5
"""Seconds: far below what the text takes, far above the hiccups of a busy machine."""


@pytest.fixture(scope="module")
def slow() -> Iterator[Client]:
    """A server whose session takes its time."""
    with fake_server(FAKE_PASS_MS=str(PASS_MS)) as client:
        client.initialize()
        yield client
        assert client.close() == 0


def begun(client: Client, name: str) -> tuple[str, int]:
    """A file and a request in it that is being decoded."""
    uri = client.open(f"#> {json.dumps(LONG)}\n", name)
    number = client.inline(uri, 1, 0)
    client.until(lambda stats: stats["writing"] > 0)
    return uri, number


def test_cancel_answers_at_once_and_stops_the_decoder(slow: Client) -> None:
    stopped = slow.stats()["stopped"]
    _, number = begun(slow, "cancel.py")
    begin = time.monotonic()
    slow.notify("$/cancelRequest", {"id": number})
    answer = slow.answer(number)
    assert time.monotonic() - begin < AT_ONCE
    assert answer["error"]["code"] == CANCELLED
    stats = slow.until(lambda stats: stats["stopped"] > stopped)
    assert stats["stop_ms"] < 1000 * AT_ONCE
    passes = slow.stats()["passes"]
    time.sleep(10 * PASS_MS / 1000)
    assert slow.stats()["passes"] == passes


def test_a_newer_request_supersedes_and_both_are_answered(slow: Client) -> None:
    stopped = slow.stats()["stopped"]
    uri, older = begun(slow, "supersede.py")
    begin = time.monotonic()
    slow.edit(uri, {"text": '#> "x = 1"\n'})
    newer = slow.inline(uri, 1, 0)
    assert slow.answer(older)["result"] == {"items": []}
    assert [item["insertText"] for item in slow.answer(newer)["result"]["items"]] == ["x = 1"]
    assert time.monotonic() - begin < AT_ONCE
    slow.until(lambda stats: stats["stopped"] > stopped)


def test_a_hundred_requests_at_once_are_all_answered(slow: Client) -> None:
    uri = slow.open(f"#> {json.dumps(LONG)}\n" + "\n" * 100, "many.py")
    numbers = [slow.inline(uri, 1 + i, 0) for i in range(100)]
    for number in numbers[::3]:
        slow.notify("$/cancelRequest", {"id": number})
    slow.notify("$/cancelRequest", {"id": numbers[-1]})
    for number in numbers:
        answer = slow.answer(number)
        assert answer.get("result") == {"items": []} or answer["error"]["code"] == CANCELLED


def test_cancelling_one_of_two_for_the_same_place_leaves_the_other(slow: Client) -> None:
    text = "value = [1, 2, 3]\n" * 8
    uri = slow.open(f"#> {json.dumps(text)}\n", "shared.py")
    first, second = slow.inline(uri, 1, 0), slow.inline(uri, 1, 0)
    slow.notify("$/cancelRequest", {"id": first})
    assert slow.answer(first)["error"]["code"] == CANCELLED
    assert slow.answer(second)["result"]["items"][0]["insertText"] == text


def test_typing_what_is_being_written_joins_the_running_request(slow: Client) -> None:
    before = slow.stats()
    text = "value = [1, 2, 3]\n" * 8
    uri = slow.open(f"#> {json.dumps(text)}\n", "join.py")
    first = slow.inline(uri, 1, 0)
    slow.until(lambda stats: stats["writing"] >= 8)
    slow.edit(uri, insertion(1, 0, "val"))
    second = slow.inline(uri, 1, 3)
    assert slow.answer(first)["result"] == {"items": []}  # its place is gone
    assert slow.answer(second)["result"]["items"][0]["insertText"] == text[3:]
    after = slow.stats()
    assert (after["filled"], after["stopped"]) == (before["filled"] + 1, before["stopped"])


def test_a_debounced_request_is_superseded_without_the_session() -> None:
    with fake_server() as client:
        client.initialize(debounceMs=3_600_000)
        uri = client.open('#> "x = 1"\n')
        older = client.inline(uri, 1, 0)
        client.edit(uri, insertion(1, 0, "\n"))
        client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"debounceMs": 0}}})
        newer = client.inline(uri, 2, 0)
        assert client.answer(older)["result"] == {"items": []}
        assert client.answer(newer)["result"]["items"][0]["insertText"] == "x = 1"
        stats = client.stats()
        assert (stats["filled"], stats["superseded"]) == (1, 1)
        assert client.close() == 0


def test_shutdown_answers_what_is_under_way() -> None:
    with fake_server(FAKE_PASS_MS=str(PASS_MS)) as client:
        client.initialize()
        _, number = begun(client, "bye.py")
        shutdown = client.request("shutdown")
        late = client.request("viable/stats", {})
        assert client.answer(number)["error"]["code"] == CANCELLED
        assert client.answer(shutdown)["result"] is None
        assert client.answer(late)["error"]["code"] == -32600
        client.notify("exit")
        assert client.process.wait(60) == 0
