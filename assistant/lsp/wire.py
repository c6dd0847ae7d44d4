"""Messages on a pair of byte streams: headers, a blank line, a body.

A client that writes nonsense must not stop the server: what is no header is skipped, up to the next that is one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

LARGEST = 256 * 1024 * 1024
"""Bytes of a body at most; a longer one is taken for nonsense."""

_LENGTH = re.compile(rb"content-length:[ \t]*([0-9]{1,12})[ \t]*\r?\n$", re.IGNORECASE)
_LONGEST_LINE = 65536


def messages(stream: BinaryIO) -> Iterator[bytes]:
    """Bodies as they come in, until the stream ends."""
    length = None
    while line := stream.readline(_LONGEST_LINE):
        if match := _LENGTH.search(line):  # search: the rest of a body that was longer than it said may stand before it
            length = int(match[1]) if int(match[1]) <= LARGEST else None
        elif length is not None and not line.strip():
            body = stream.read(length)
            if len(body) < length:
                return
            yield body
            length = None


class Writer:
    """Writes to a client, and says so when it has gone."""

    def __init__(self, stream: BinaryIO, gone: Callable[[], None]) -> None:
        self._stream = stream
        self._gone = gone
        self.since: float | None = None
        """When the write under way began, in seconds of time.monotonic(); None between two. It lasts for as long as the
        client reads nothing and the pipe is full."""

    def write(self, body: bytes) -> None:
        """One message, with its header."""
        self.since = time.monotonic()
        try:
            self._stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._gone()
        finally:
            self.since = None
