"""The server's state and what happens to it; `features.py` says which message does what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from assistant import __version__
from assistant.beside import Surroundings
from assistant.lsp.accept import Accepted
from assistant.lsp.around import around
from assistant.lsp.documents import CLOSED, Document, Place
from assistant.lsp.options import Options
from assistant.lsp.positions import Encoding, to_units
from assistant.lsp.progress import Report
from assistant.lsp.protocol import Protocol
from assistant.lsp.stops import next_stop
from assistant.lsp.suggest import Suggester, Suggestion, Target
from assistant.lsp.worker import Fills, State, Worker

log = logging.getLogger(__name__)

Opener = Callable[[Options, Path, Report], Callable[[], Fills]]
"""From the editor's options and the workspace's folder to what opens a session. The latter runs in the worker's thread
and may report how far it has come."""


class Server(LanguageServer):
    """One client's server."""

    protocol: Protocol

    def __init__(self, opener: Opener, max_tokens: int | None = None, max_ms: int | None = None) -> None:
        """`max_tokens` and `max_ms`, where given, are the command line's and win over the editor's."""
        super().__init__("viable", __version__, protocol_cls=Protocol)
        self.documents: dict[str, Document] = {}
        self.worker = Worker(self._state_changed)
        self.suggester = Suggester(self.worker, self.around)
        self.accepted = Accepted()
        self.initial = Options()
        """As the client set them when it began, before any configuration."""
        self.exit_code: int | None = None
        self.on_stop: Callable[[], None] = lambda: None
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

    @property
    def encoding(self) -> Encoding:
        """The units that the client counts columns in."""
        return cast(Encoding, str(self.workspace.position_encoding))

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
            loop.call_soon_threadsafe(self._report, token, message, percentage)

        folder = to_fs_path(self.workspace.root_uri) if self.workspace.root_uri else None
        self.worker.start(self._opener(self.options, Path(folder or "."), report))
        self._state_changed("loading", "loading the model")
        if not _can_show_progress(self.client_capabilities):
            return
        try:
            await self.work_done_progress.create_async(token)
        except JsonRpcException as error:
            log.info("the client shows no progress: %s", error)
            return
        begin = types.WorkDoneProgressBegin("Viable", message="loading the model", percentage=0)
        self.work_done_progress.begin(token, begin)
        self._bars.add(token)
        await settled.wait()
        self._bars.discard(token)
        self.work_done_progress.end(token, types.WorkDoneProgressEnd(message=self.worker.state))

    def _report(self, token: str, message: str, percentage: int | None) -> None:
        log.debug("%s", message)
        if token in self._bars:
            self.work_done_progress.report(token, types.WorkDoneProgressReport(message=message, percentage=percentage))

    async def configure(self, options: Options) -> None:
        """Take new options; another model means another session. The first one is `initialized`'s to open."""
        before, self.options = self.options, options
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
        folder = to_fs_path(self.workspace.root_uri) if self.workspace.root_uri else None
        return around(document, self.documents.values(), folder, self.options)

    def target(self, document: Document, params: types.InlineCompletionParams) -> Target:
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

    async def next_stop(self, params: Any) -> int:
        """How much of a suggestion to take when the user takes a word or a line of it, in the client's units."""
        try:
            uri, line, units = params.textDocument.uri, params.position.line, params.position.character
            text, kind = params.text, params.kind
        except AttributeError as error:
            raise JsonRpcInvalidParams(str(error)) from None
        if (document := self.documents.get(uri)) is None:
            raise JsonRpcInvalidParams(f"{uri} is not open")
        if kind not in ("word", "line"):
            raise JsonRpcInvalidParams(f"kind must be word or line, not {kind!r}")
        gap = document.gap(document.place(line, units, self.encoding))
        # Parsing a large file takes a while, which the user's next keystroke must not wait for.
        return to_units(text, await asyncio.to_thread(next_stop, gap, text, kind), self.encoding)

    def place(self, document: Document, position: types.Position) -> Place:
        return document.place(position.line, position.character, self.encoding)

    def range(self, document: Document, suggestion: Suggestion) -> types.Range:
        """What a suggestion replaces, in the client's units."""
        start, end = suggestion.target.start, suggestion.target.end
        return types.Range(
            types.Position(start.line, document.units(start, self.encoding)),
            types.Position(end.line, document.units(end, self.encoding)),
        )

    def trace(self, message: str) -> None:
        """Tell a client that follows what the server does (`$/setTrace`)."""
        if self.protocol.trace != types.TraceValue.Off:
            self.log_trace(types.LogTraceParams(message))

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

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Faults go to the log; a box in the user's way for each would help nobody."""
        log.error("%s", error)

    def _state_changed(self, state: State, message: str) -> None:
        log.log(logging.ERROR if state == "failed" else logging.INFO, "%s", message)
        if state == "failed":
            self.window_show_message(types.ShowMessageParams(types.MessageType.Error, f"Viable: {message}"))
        if self.options.status:
            self.protocol.notify("viable/status", {"state": state, "message": message})
        if state != "loading":
            self._settled.set()


def _can_show_progress(capabilities: types.ClientCapabilities) -> bool:
    return bool(capabilities.window and capabilities.window.work_done_progress)
