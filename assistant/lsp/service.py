"""The process around the server: its streams, its log, its beginning and its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from typing import BinaryIO

from assistant.errors import ViableError
from assistant.lsp.features import register
from assistant.lsp.messages import ERROR, INFO, WARNING
from assistant.lsp.server import Opener, Server
from assistant.lsp.wire import messages

log = logging.getLogger(__name__)

SWITCH = 0.0005
"""Seconds after which a busy thread lets another run: what the user types must not wait for the decoder's Python."""
PARENT = 2.0
"""Seconds between two looks whether the client's process is still there and reads what it is told."""
PATIENCE = 1.0
"""Seconds that the decoder has to stop when the process ends."""


def serve(opener: Opener, max_tokens: int | None = None, max_ms: int | None = None) -> int:
    """Serve one client on stdin and stdout until it leaves; the exit code.

    `max_tokens` and `max_ms` of a suggestion win over what the client sets. Nothing but the protocol reaches the
    client: whatever else is written to stdout, by anyone, goes to stderr.
    """
    stdin, stdout = _take_streams()
    sys.setswitchinterval(SWITCH)
    server = Server(opener, stdout, max_tokens, max_ms)
    register(server)
    try:
        asyncio.run(_serve(server, stdin))
    except KeyboardInterrupt:
        server.stop(130)
    code = 1 if server.exit_code is None else server.exit_code
    if not server.worker.join(PATIENCE):
        # A model being loaded, or a pass under way, cannot be stopped; it must not keep the process.
        sys.stderr.flush()
        os._exit(code)
    return code


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The client's streams, which nobody else can reach from now on."""
    if sys.stdin is None or sys.stdout is None:
        raise ViableError("stdin or stdout is closed: an editor has to be at their other end")
    sys.stdout.flush()
    stdin, stdout = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(stdin, "rb"), os.fdopen(stdout, "wb")


async def _serve(server: Server, stdin: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
    server.on_stop = lambda: inbox.put_nowait(None)
    handler = ClientLog(server, loop)
    logging.getLogger("assistant").addHandler(handler)
    reader = threading.Thread(target=_read, args=(stdin, inbox, loop), name="viable-stdin", daemon=True)
    reader.start()
    threading.Thread(target=_watch, args=(server, reader, loop), name="viable-watch", daemon=True).start()
    # What was imported stays: the collector need not walk through it again and again while the user types.
    gc.freeze()
    try:
        while server.exit_code is None and (body := await inbox.get()) is not None:
            server.client.receive(body)
            # Let a new request see the documents as they are now, before the next message changes them.
            await asyncio.sleep(0)
    finally:
        logging.getLogger("assistant").removeHandler(handler)
    server.stop(1)  # the stream ended before `exit`


def _read(stdin: BinaryIO, inbox: asyncio.Queue[bytes | None], loop: asyncio.AbstractEventLoop) -> None:
    try:
        for body in messages(stdin):
            loop.call_soon_threadsafe(inbox.put_nowait, body)
        loop.call_soon_threadsafe(inbox.put_nowait, None)
    except RuntimeError:
        log.debug("the event loop has ended")


def _watch(server: Server, reader: threading.Thread, loop: asyncio.AbstractEventLoop) -> None:
    """Leave when the client's process has died without closing its pipes, which a child of it may still hold.

    A thread, because a client that does not read what it is told keeps the event loop in a write for good. Once it has
    died, or has nothing more to say, nobody will read it.
    """
    with contextlib.suppress(RuntimeError):  # the event loop has ended
        while True:
            time.sleep(PARENT)
            process_id = server.process_id
            gone = bool(process_id and not _alive(process_id))
            if gone:
                log.info("the client, process %d, is gone", process_id)
                loop.call_soon_threadsafe(server.stop, 1)
            since = server.writer.since
            if (gone or not reader.is_alive()) and since is not None and time.monotonic() - since > PARENT:
                os._exit(1)


def _alive(process_id: int) -> bool:
    if sys.platform == "win32":
        return True  # there, os.kill ends what it is asked about; the end of stdin has to do
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


class ClientLog(logging.Handler):
    """Sends the project's own log to the editor."""

    LEVELS = ((logging.ERROR, ERROR), (logging.WARNING, WARNING), (logging.INFO, INFO))

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(logging.INFO)
        self._server = server
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        kind = next(kind for level, kind in self.LEVELS if record.levelno >= level)
        params = {"type": kind, "message": record.getMessage()}
        try:
            self._loop.call_soon_threadsafe(self._server.client.notify, "window/logMessage", params)
        except RuntimeError:  # the event loop has ended
            self.handleError(record)
