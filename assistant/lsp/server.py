"""The server's state and what happens to it; `features.py` says which message does what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from assistant.beside import Surroundings
from assistant.lsp.accept import Accepted
from assistant.lsp.around import around
from assistant.lsp.documents import CLOSED, Document, Place
from assistant.lsp.messages import (
    ERROR,
    ClientCapabilities,
    InitializeParams,
    InlineCompletionParams,
    NextStopParams,
    Position,
)
from assistant.lsp.options import Options
from assistant.lsp.positions import Encoding, agreed, to_units
from assistant.lsp.progress import Report
from assistant.lsp.rpc import INVALID_PARAMS, INVALID_REQUEST, NOT_INITIALIZED, Connection, Refusal
from assistant.lsp.stops import next_stop
from assistant.lsp.suggest import Suggester, Suggestion, Target
from assistant.lsp.uris import to_path
from assistant.lsp.wire import Writer
from assistant.lsp.worker import Fills, State, Worker

log = logging.getLogger(__name__)

Opener = Callable[[Options, Path, Report], Callable[[], Fills]]
"""From the editor's options and the workspace's folder to what opens a session. The latter runs in the worker's thread
and may report how far it has come."""


class Server:
    """One client's server."""

    def __init__(
        self, opener: Opener, stream: BinaryIO, max_tokens: int | None = None, max_ms: int | None = None
    ) -> None:
        """`stream` leads to the client. `max_tokens` and `max_ms`, where given, are the command line's and win over the
        editor's."""
        self.writer = Writer(stream, lambda: self.stop(1))
        self.client = Connection(self.writer.write, self._untimely)
        self.capabilities: ClientCapabilities | None = None
        """The client's; None before `initialize`."""
        self.process_id: int | None = None
        """The client's, if it has said so."""
        self.folder: str | None = None
        """The workspace's."""
        self.encoding: Encoding = "utf-16"
        """The units that the client counts columns in."""
        self.tracing = False
        """Whether the client follows what the server does (`$/setTrace`)."""
        self.documents: dict[str, Document] = {}
        self.worker = Worker(self._state_changed)
        self.suggester = Suggester(self.worker, self.around)
        self.accepted = Accepted()
        self.initial = Options()
        """As the client set them when it began, before any configuration."""
        self.exit_code: int | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self._shutting_down = False
        self._opener = opener
        self._limits = max_tokens, max_ms
        self._loads = 0
        self._settled = asyncio.Event()
        self._bars: set[str] = set()
        """Tokens of the progress bars that the client shows."""

    @property
    def options(self) -> Options:
        return self.suggester.options

    @options.setter
    def options(self, options: Options) -> None:
        self.suggester.options = options.limited(*self._limits)

    def begin(self, params: InitializeParams) -> None:
        """Take what the client says of itself."""
        self.capabilities = params.capabilities
        self.process_id = params.process_id
        self.folder = to_path(params.root_uri) if params.root_uri is not None else params.root_path
        self.encoding = agreed(params.capabilities.encodings)

    def shut_down(self) -> None:
        """Give up what is under way and take nothing more but `exit`."""
        self._shutting_down = True
        self.client.cancel()

    def exit(self) -> None:
        """The client has finished; 1 where it did not say `shutdown` before."""
        self.stop(0 if self._shutting_down else 1)

    def _untimely(self, method: str) -> Refusal | None:
        if method == "exit":
            return None
        if self._shutting_down:
            return Refusal(INVALID_REQUEST, "the server is shutting down")
        if self.capabilities is None and method != "initialize":
            return Refusal(NOT_INITIALIZED, "the server waits for `initialize`")
        if self.capabilities is not None and method == "initialize":
            return Refusal(INVALID_REQUEST, "the server is initialized already")
        return None

    def stop(self, exit_code: int) -> None:
        """End the service; the first reason counts."""
        if self.exit_code is None:
            self.exit_code = exit_code
            self.worker.close()
            self.on_stop()

    async def load(self) -> None:
        """Open a session behind everything else, and show that it is being done."""
        self._loads += 1
        token = f"viable/load/{self._loads}"
        self._settled.set()  # the bar of an earlier load, which this one gives up, ends
        self._settled = settled = asyncio.Event()
        loop = asyncio.get_running_loop()

        def report(message: str, percentage: int | None) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended: so has the process, soon
                loop.call_soon_threadsafe(self._report, token, message, percentage)

        self.suggester.cache.clear()
        self.worker.start(self._opener(self.options, Path(self.folder or "."), report))
        self._state_changed("loading", "loading the model")
        if not (self.capabilities and self.capabilities.shows_progress):
            return
        try:
            await self.client.ask("window/workDoneProgress/create", {"token": token})
        except Refusal as error:
            log.info("the client shows no progress: %s", error)
            return
        self._progress(token, kind="begin", title="Viable", message="loading the model", percentage=0)
        self._bars.add(token)
        await settled.wait()
        self._bars.discard(token)
        self._progress(token, kind="end", message=self.worker.state)

    def _report(self, token: str, message: str, percentage: int | None) -> None:
        log.debug("%s", message)
        if token in self._bars:
            known = {} if percentage is None else {"percentage": percentage}
            self._progress(token, kind="report", message=message, **known)

    def _progress(self, token: str, **value: str | int) -> None:
        self.client.notify("$/progress", {"token": token, "value": value})

    async def configure(self, options: Options) -> None:
        """Take new options; another model means another session. The first one is `initialized`'s to open."""
        before, self.options = self.options, options
        if before != self.options:
            self.suggester.cache.clear()
        if self._loads and before.session != options.session:
            await self.load()

    def edited(self, document: Document) -> None:
        """A file was changed: the pace is measured, and an accepted suggestion is followed by the next."""
        self.suggester.edited()
        self.worker.edited(document.uri, lambda: document.text)
        if self.options.prefetch and (place := self.accepted.arrived(document)):
            self.suggester.prefetch(document, place)

    def closed(self, document: Document) -> None:
        """A file was closed; who waits for a suggestion in it is answered with none."""
        document.version = CLOSED
        self.worker.closed(document.uri)

    def around(self, document: Document) -> Callable[[], Surroundings]:
        """What the project's other files say for a suggestion in this one."""
        return around(document, self.documents.values(), self.folder, self.options)

    def target(self, document: Document, params: InlineCompletionParams) -> Target:
        """Where an inline suggestion goes: the cursor, or the entry that is selected in the editor's list."""
        cursor = self.place(document, params.position)
        info = params.context.selected_completion_info
        if info is None:
            return Target(cursor, cursor, "", document.gap(cursor))
        start, end = self.place(document, info.range.start), self.place(document, info.range.end)
        if start.line != end.line or not start <= cursor <= end:
            log.info("the selected entry is not at the cursor")
            return Target(cursor, cursor, "", document.gap(cursor))
        around = document.gap(start, end)
        return Target(start, end, info.text, type(around)(around.left + info.text, around.right))

    async def next_stop(self, params: NextStopParams) -> int:
        """How much of a suggestion to take when the user takes a word or a line of it, in the client's units."""
        if (document := self.documents.get(params.text_document.uri)) is None:
            raise Refusal(INVALID_PARAMS, f"{params.text_document.uri} is not open")
        gap, text = document.gap(self.place(document, params.position)), params.text
        # Parsing a large file takes a while, which the user's next keystroke must not wait for.
        return to_units(text, await asyncio.to_thread(next_stop, gap, text, params.kind), self.encoding)

    def place(self, document: Document, position: Position) -> Place:
        return document.place(position.line, position.character, self.encoding)

    def range(self, document: Document, suggestion: Suggestion) -> dict[str, Any]:
        """What a suggestion replaces, in the client's units, as the protocol has it."""

        def position(place: Place) -> dict[str, int]:
            return {"line": place.line, "character": document.units(place, self.encoding)}

        return {"start": position(suggestion.target.start), "end": position(suggestion.target.end)}

    def show(self, kind: int, message: str) -> None:
        """Tell the user something that must not be overlooked."""
        self.client.notify("window/showMessage", {"type": kind, "message": f"Viable: {message}"})

    def trace(self, message: str) -> None:
        """Tell a client that follows what the server does."""
        if self.tracing:
            self.client.notify("$/logTrace", {"message": message})

    def stats(self) -> dict[str, Any]:
        """Counters, for the log, the status line and the tests."""
        suggester = self.suggester
        return {
            "state": self.worker.state,
            "writing": self.worker.writing,
            "documents": len(self.documents),
            "cache": len(suggester.cache),
            **asdict(self.worker.tally),
            **{name.replace(" ", "_"): count for name, count in suggester.counts.items()},
        }

    def _state_changed(self, state: State, message: str) -> None:
        log.log(logging.ERROR if state == "failed" else logging.INFO, "%s", message)
        if state == "failed":
            self.show(ERROR, message)
        if self.options.status:
            self.client.notify("viable/status", {"state": state, "message": message})
        if state != "loading":
            self._settled.set()
