"""JSON-RPC as pygls speaks it, with every request answered and the documents kept by us.

pygls leaves some ids without an answer: parameters that do not fit, requests after `shutdown` or before `initialize`.
Its text store splits lines at form feeds and forgets versions, so ours takes its place.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams, JsonRpcInvalidRequest, JsonRpcParseError
from pygls.protocol import LanguageServerProtocol, lsp_method

from assistant.lsp.documents import Document

if TYPE_CHECKING:
    from assistant.lsp.server import Server

log = logging.getLogger(__name__)


class Answered:
    """Stands for a message that could not be read and has been answered already."""


class Protocol(LanguageServerProtocol):
    """The server's side of the connection."""

    _server: Server

    def receive(self, body: bytes) -> None:
        """Read one message and have it handled. What a client may have written never raises."""
        try:
            message = json.loads(body, object_hook=self.structure_message)
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested beyond reason
            log.warning("dropped a message that is no JSON: %s", error)
            self._refuse(None, JsonRpcParseError(f"not JSON: {error}"))
            return
        try:
            self.handle_message(message)
        except Exception:  # a fault in one message must not end the service
            log.exception("a message could not be handled")

    def structure_message(self, data: dict[str, Any]) -> Any:
        """From JSON to a message. What does not fit its method is refused under its own id."""
        if "method" in data:
            data = {"params": None} | data  # which JSON-RPC lets a client leave out
        try:
            return super().structure_message(data)
        except JsonRpcException:
            log.warning("dropped a message that does not fit its method: %s", data.get("method"))
            if "id" in data and "method" in data:
                self._refuse(data["id"], JsonRpcInvalidParams(f"not what {data['method']} takes"))
            return Answered()

    def handle_message(self, message: Any) -> None:
        """Give a message to its handler, or refuse it where it comes at the wrong time."""
        if isinstance(message, Answered):
            return
        if not hasattr(message, "jsonrpc"):
            log.warning("dropped a message that is no JSON-RPC")
            self._refuse(message.get("id") if isinstance(message, dict) else None, JsonRpcInvalidRequest())
            return
        method = getattr(message, "method", None)
        refusal = self._untimely(str(method)) if method is not None else None
        if refusal is None:
            super().handle_message(message)
        elif getattr(message, "id", None) is not None:
            self._refuse(message.id, refusal)

    def _untimely(self, method: str) -> JsonRpcException | None:
        if method == types.EXIT:
            return None
        if self._shutdown:
            return JsonRpcInvalidRequest("the server is shutting down")
        if self._workspace is None and method != types.INITIALIZE:
            code = types.ErrorCodes.ServerNotInitialized.value
            return JsonRpcException("the server waits for `initialize`", code=code)
        if self._workspace is not None and method == types.INITIALIZE:
            return JsonRpcInvalidRequest("the server is initialized already")
        return None

    def _refuse(self, message_id: Any, error: JsonRpcException) -> None:
        # Written out rather than structured: JSON-RPC wants an id even where it is null.
        problem = {"code": error.code, "message": str(error)}
        self._send_data({"jsonrpc": self.VERSION, "id": message_id, "error": problem})

    @lsp_method(types.EXIT)
    def lsp_exit(self, *args: Any) -> Generator[Any, Any, None]:
        """The client has finished; 1 where it did not say `shutdown` before."""
        self._server.stop(0 if self._shutdown else 1)
        yield from ()  # handlers that pygls knows by this name are generators

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        """Keep a file in step from now on."""
        item = params.text_document
        self._server.documents[item.uri] = Document(item.uri, item.language_id, item.version, item.text)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        """Follow the user's edits, one after the other."""
        document = self._server.documents.get(params.text_document.uri)
        if document is None:
            log.warning("an edit of %s, which is not open", params.text_document.uri)
            return
        encoding = self._server.encoding
        for change in params.content_changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                start = document.place(change.range.start.line, change.range.start.character, encoding)
                end = document.place(change.range.end.line, change.range.end.character, encoding)
                document.replace(start, end, change.text)
            else:
                document.replace_all(change.text)
        document.version = params.text_document.version
        self._server.edited(document)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        """Forget a file."""
        if document := self._server.documents.pop(params.text_document.uri, None):
            self._server.closed(document)
