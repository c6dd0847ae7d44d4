"""Framing: what a client may write, and what comes of it."""

from __future__ import annotations

import io
import time

import pytest

from assistant.lsp.wire import LARGEST, Writer, messages

GOOD = b"Content-Length: 2\r\n\r\n{}"


def read(data: bytes) -> list[bytes]:
    return list(messages(io.BytesIO(data)))


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        b"content-length:2\n\n{}",
        b"Content-Length: 2\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n{}",
        b"Content-Type: x\r\nContent-Length: 2\r\n\r\n{}",
        b"\r\n\r\nnonsense\r\n" + GOOD,
        b"the rest of a body" + GOOD,
        b"Content-Length: -5\r\n\r\n" + GOOD,
        b"Content-Length: 1e3\r\n\r\n" + GOOD,
        b"Content-Length: %d\r\n\r\n" % (LARGEST + 1) + GOOD,
        b"\0" * 200_000 + GOOD,
    ],
)
def test_a_message_is_found_behind_nonsense(data: bytes) -> None:
    assert read(data) == [b"{}"]


@pytest.mark.parametrize("data", [b"", b"Content-Length: 3\r\n\r\n{}", b"Content-Length: 3\r\n", b"x" * 100])
def test_a_stream_that_ends_early_has_no_message(data: bytes) -> None:
    assert read(data) == []


def test_messages_follow_each_other() -> None:
    assert read(GOOD + b"Content-Length: 4\r\n\r\n\r\n\r\n" + GOOD) == [b"{}", b"\r\n\r\n", b"{}"]


class Broken(io.BytesIO):
    def write(self, data: object) -> int:
        raise BrokenPipeError


def test_a_client_that_has_gone_is_said_not_raised() -> None:
    gone: list[str] = []
    writer = Writer(Broken(), lambda: gone.append("gone"))
    writer.write(b"{}")
    assert gone == ["gone"]


def test_a_write_under_way_says_since_when() -> None:
    seen: list[float | None] = []

    class Slow(io.BytesIO):
        def write(self, data: object) -> int:
            seen.append(writer.since)
            return 0

    begin = time.monotonic()
    writer = Writer(Slow(), lambda: None)
    for _ in range(2):
        assert writer.since is None
        writer.write(b"{}")
    assert writer.since is None
    assert [each is not None and begin <= each <= time.monotonic() for each in seen] == [True, True]


def test_what_is_written_can_be_read() -> None:
    stream = io.BytesIO()
    writer = Writer(stream, lambda: None)
    for body in (b"{}", "{“é”}".encode()):
        writer.write(body)
    assert read(stream.getvalue()) == [b"{}", "{“é”}".encode()]
    stream.close()
    gone: list[str] = []
    Writer(stream, lambda: gone.append("gone")).write(b"{}")
    assert gone == ["gone"]
