"""JSON-RPC without a process: what a peer may write, and what it is answered."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.lsp.rpc import (
    CANCELLED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Connection,
    Refusal,
)


class Peer:
    """Our connection, and what came out of it."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.seen: list[Any] = []
        self.line = Connection(lambda body: self.said.append(json.loads(body)), lambda method: None)
        self.line.on("double", list[int], lambda numbers: [2 * each for each in numbers])
        self.line.on("see", Any, self.seen.append)
        self.line.on("fault", Any, lambda params: {}["missing"])
        self.line.on("refuse", Any, self._refuse)
        self.line.on("sleep", Any, lambda params: asyncio.sleep(3600))
        self.line.on("stubborn", Any, lambda params: self._stubborn())

    def _refuse(self, params: object) -> None:
        raise Refusal(7, "not today")

    async def _stubborn(self) -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    def hears(self, **message: Any) -> None:
        self.line.receive(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def codes(self) -> list[tuple[Any, int]]:
        return [(each["id"], each["error"]["code"]) for each in self.said]


async def turns() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_request_is_answered_and_a_notification_is_not() -> None:
    peer = Peer()
    peer.hears(id="a", method="double", params=[1, 2.0])
    peer.hears(id=2, method="see", params={"x": 1.5})
    peer.hears(method="see")
    assert peer.said == [
        {"jsonrpc": "2.0", "id": "a", "result": [2, 4]},
        {"jsonrpc": "2.0", "id": 2, "result": None},
    ]
    assert peer.seen == [{"x": 1.5}, None]


@pytest.mark.parametrize(
    ("message", "number", "code"),
    [
        ({"id": 1, "method": "no/such"}, 1, METHOD_NOT_FOUND),
        ({"id": 1, "method": "double", "params": [1.5]}, 1, INVALID_PARAMS),
        ({"id": 1, "method": "double"}, 1, INVALID_PARAMS),
        ({"id": 1, "method": "fault"}, 1, INTERNAL_ERROR),
        ({"id": 1, "method": "refuse"}, 1, 7),
        ({"id": 1, "method": None}, 1, INVALID_REQUEST),
        ({"id": 1, "method": ["double"]}, 1, INVALID_REQUEST),
        ({"id": None, "method": "see"}, None, INVALID_REQUEST),
        ({"id": True, "method": "see"}, True, INVALID_REQUEST),
        ({"id": 1.5, "method": "see"}, 1.5, INVALID_REQUEST),
        ({"id": [1], "method": "see"}, [1], INVALID_REQUEST),
        ({"id": 1}, 1, INVALID_REQUEST),
        ({"id": 1, "method": "see", "jsonrpc": "1.0"}, 1, INVALID_REQUEST),
        ({"id": 1, "method": "see", "jsonrpc": None}, 1, INVALID_REQUEST),
        ({}, None, INVALID_REQUEST),
    ],
)
def test_a_bad_request_is_refused_under_its_id(message: dict[str, Any], number: object, code: int) -> None:
    peer = Peer()
    peer.hears(**message)
    assert peer.codes() == [(number, code)]
    assert not peer.seen


@pytest.mark.parametrize(
    "message",
    [
        {"method": "no/such"},
        {"method": "double", "params": "x"},
        {"method": "fault"},
        {"method": "refuse"},
        {"method": 1},
        {"id": 5, "result": 1},
        {"id": ["viable/1"], "result": 1},
        {"id": "viable/1", "error": {}},
        {"method": "$/cancelRequest", "params": {"id": None}},
        {"method": "$/cancelRequest", "params": {"id": 5}},
    ],
)
def test_a_bad_notification_or_answer_is_dropped(message: dict[str, Any]) -> None:
    peer = Peer()
    peer.hears(**message)
    assert not peer.said
    peer.hears(id=1, method="double", params=[])
    assert [each["result"] for each in peer.said] == [[]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": st.just("viable/1") | JSON,
        "method": st.sampled_from(["double", "see", "fault", "refuse", "no/such", "$/cancelRequest"]) | JSON,
        "params": JSON,
        "result": JSON,
        "error": JSON,
    },
)


def no_json(name: str) -> None:
    raise ValueError(name)


@given(st.binary(max_size=20) | (JSON | MESSAGES).map(lambda value: json.dumps(value).encode()))
def test_whatever_is_written_is_answered_once_at_most_and_never_raises(body: bytes) -> None:
    peer = Peer()
    logging.disable()
    try:
        peer.line.receive(body)
    finally:
        logging.disable(logging.NOTSET)
    assert len(peer.said) <= 1
    json.dumps(peer.said, allow_nan=False)  # raises where Python's NaN or Infinity came back as an id
    try:
        message = json.loads(body, parse_constant=no_json)
    except ValueError:
        assert peer.codes() == [(None, PARSE_ERROR)]
        return
    if isinstance(message, dict) and "method" in message and "id" in message:
        [answer] = peer.said
        assert json.dumps(answer["id"]) == json.dumps(message["id"]) or answer["id"] == message["id"]


async def test_a_cancelled_request_is_answered_with_that_and_others_go_on() -> None:
    peer = Peer()
    peer.hears(id=1, method="sleep")
    peer.hears(id="1", method="sleep")
    peer.hears(id=2, method="stubborn")
    peer.hears(method="sleep")
    await turns()
    peer.hears(method="$/cancelRequest", params={"id": "1"})
    peer.hears(method="$/cancelRequest", params={"id": 2})
    await turns()
    assert peer.said == [
        {"jsonrpc": "2.0", "id": "1", "error": {"code": CANCELLED, "message": "the request was cancelled"}},
        {"jsonrpc": "2.0", "id": 2, "result": "done all the same"},
    ]
    peer.said.clear()
    peer.line.cancel()
    await turns()
    assert peer.codes() == [(1, CANCELLED)]


async def test_a_request_cancelled_before_it_began_is_answered_too() -> None:
    peer = Peer()
    peer.hears(id=1, method="sleep")
    peer.hears(method="$/cancelRequest", params={"id": 1})
    await turns()
    assert peer.codes() == [(1, CANCELLED)]


async def test_two_requests_under_one_id_are_both_answered() -> None:
    peer = Peer()
    peer.hears(id=1, method="sleep")
    peer.hears(id=1, method="double", params=[3])
    peer.line.cancel()
    await turns()
    assert [each["id"] for each in peer.said] == [1, 1]


async def test_what_the_peer_answers_reaches_who_has_asked() -> None:
    peer = Peer()
    asked = [asyncio.ensure_future(peer.line.ask("tell", {"number": number})) for number in range(4)]
    await turns()
    ids = [each["id"] for each in peer.said]
    assert len(set(ids)) == 4
    assert peer.said[3] == {"jsonrpc": "2.0", "id": ids[3], "method": "tell", "params": {"number": 3}}
    peer.hears(id=ids[3], result=[1], error=None)
    peer.hears(id=ids[1], error={"code": 3, "message": "no"})
    peer.hears(id=ids[0], error="nonsense")
    peer.hears(id=ids[0], result="too late")
    done = await asyncio.gather(asked[0], asked[1], asked[3], return_exceptions=True)
    assert [(type(each), getattr(each, "code", None), str(each)) for each in done] == [
        (Refusal, INTERNAL_ERROR, "nonsense"),
        (Refusal, 3, "no"),
        (list, None, "[1]"),
    ]
    asked[2].cancel()
    await turns()
    peer.hears(id=ids[2], result="nobody waits")
    assert len(peer.said) == 4


async def test_what_may_not_be_called_now_is_refused() -> None:
    said: list[dict[str, Any]] = []
    closed = Refusal(5, "closed")
    line = Connection(lambda body: said.append(json.loads(body)), lambda method: closed if method == "a" else None)
    for method in ("a", "b"):
        line.on(method, None, lambda params: "in")
        line.receive(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode())
    assert [each.get("result", each.get("error")) for each in said] == [{"code": 5, "message": "closed"}, "in"]


def test_a_message_nested_beyond_reason_is_answered() -> None:
    peer = Peer()
    for depth in (500, 100_000):
        deep = b"[" * depth + b"]" * depth
        peer.line.receive(b'{"jsonrpc": "2.0", "id": 1, "method": "see", "params": %s}' % deep)
    assert peer.said[0] == {"jsonrpc": "2.0", "id": 1, "result": None}
    assert peer.said[1]["error"]["code"] == PARSE_ERROR
