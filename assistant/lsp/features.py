"""The messages that the server answers: fetch the document, ask, convert."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from assistant import __version__
from assistant.lsp.documents import Document
from assistant.lsp.messages import (
    AUTOMATIC,
    WARNING,
    CompletionParams,
    DidChangeConfigurationParams,
    DidChangeParams,
    DidCloseParams,
    DidOpenParams,
    ExecuteCommandParams,
    InitializeParams,
    InlineCompletionParams,
    NextStopParams,
    Position,
    SetTraceParams,
)
from assistant.lsp.options import SECTION, Options, parse
from assistant.lsp.positions import Encoding
from assistant.lsp.rpc import INVALID_PARAMS, Refusal
from assistant.lsp.server import Server
from assistant.lsp.suggest import Suggestion, Target

log = logging.getLogger(__name__)

ACCEPTED = "viable.accepted"
"""The command that a client runs after inserting a suggestion; its argument is the suggestion's id."""
RESTART = "viable.restart"
STATS = "viable/stats"
NEXT_STOP = "viable/nextStop"
"""A request: {textDocument, position, text, kind: "word" | "line"}, `text` being a suggestion at the position.
Answered with {length}: how much of it to take, in the units of positions, so that the file parses after it."""
TRIGGERS = [".", "(", "[", "=", " ", ":"]
PARTIAL = "viable/partial"
"""A notification: {textDocument: {uri, version}, position, text}, the whole lines written so far for a suggestion at a
position, where the file parses with them. Sent with the option `stream`."""
LONGEST_LABEL = 60
"""Characters of a suggestion that the editor's list shows."""
INCREMENTAL = 2
"""How edits come: as what is replaced by what."""
TEXT, PLAIN, AS_IS = 1, 1, 1
"""What an entry of the editor's list is: text, without places to fill in, inserted with no more indentation."""


def advertised(encoding: Encoding) -> dict[str, Any]:
    """What is answered to `initialize`: the server's capabilities and its name."""
    capabilities = {
        "positionEncoding": encoding,
        "textDocumentSync": {"openClose": True, "change": INCREMENTAL, "save": False},
        "completionProvider": {"triggerCharacters": TRIGGERS},
        "executeCommandProvider": {"commands": [RESTART, ACCEPTED]},
        "inlineCompletionProvider": {},
        # One server for all of an editor's folders, as each has a model of its own in memory.
        "workspace": {"workspaceFolders": {"supported": True, "changeNotifications": True}},
    }
    return {"capabilities": capabilities, "serverInfo": {"name": "viable", "version": __version__}}


def register(server: Server) -> None:
    """Connect the messages to the server."""
    _register_lifecycle(server)
    _register_documents(server)
    _register_suggestions(server)
    _register_feedback(server)


def _register_lifecycle(server: Server) -> None:
    def initialize(params: InitializeParams) -> dict[str, Any]:
        server.begin(params)
        server.initial = server.options = _parsed(server, params.initialization_options, Options())
        return advertised(server.encoding)

    async def initialized(params: object) -> None:
        # A client without a configuration may have sent one unasked meanwhile: that stays.
        server.options = await _pulled(server, otherwise=lambda: server.options)
        await server.load()

    async def did_change_configuration(params: DidChangeConfigurationParams) -> None:
        if isinstance(params.settings, dict) and SECTION in params.settings:
            options = _parsed(server, params.settings[SECTION], server.initial)
        else:
            options = await _pulled(server, otherwise=lambda: server.initial)
        await server.configure(options)

    def set_trace(params: SetTraceParams) -> None:
        server.tracing = params.value != "off"

    server.client.on("initialize", InitializeParams, initialize)
    server.client.on("initialized", Any, initialized)
    server.client.on("workspace/didChangeConfiguration", DidChangeConfigurationParams, did_change_configuration)
    server.client.on("$/setTrace", SetTraceParams, set_trace)
    server.client.on("shutdown", Any, lambda params: server.shut_down())
    server.client.on("exit", Any, lambda params: server.exit())


def _register_documents(server: Server) -> None:
    def did_open(params: DidOpenParams) -> None:
        item = params.text_document
        server.documents[item.uri] = Document(item.uri, item.language_id, item.version, item.text)

    def did_change(params: DidChangeParams) -> None:
        document = server.documents.get(params.text_document.uri)
        if document is None:
            raise Refusal(INVALID_PARAMS, f"{params.text_document.uri} is not open")
        for change in params.content_changes:
            if change.range is None:
                document.replace_all(change.text)
                continue
            start, end = server.place(document, change.range.start), server.place(document, change.range.end)
            try:
                document.replace(start, end, change.text)
            except ValueError as error:
                raise Refusal(INVALID_PARAMS, str(error)) from None
        document.version = params.text_document.version
        server.edited(document)

    def did_close(params: DidCloseParams) -> None:
        if document := server.documents.pop(params.text_document.uri, None):
            server.closed(document)

    server.client.on("textDocument/didOpen", DidOpenParams, did_open)
    server.client.on("textDocument/didChange", DidChangeParams, did_change)
    server.client.on("textDocument/didClose", DidCloseParams, did_close)


def _register_suggestions(server: Server) -> None:
    async def inline_completion(params: InlineCompletionParams) -> dict[str, Any]:
        document = server.documents.get(params.text_document.uri)
        if document is None:
            log.info("a request for %s, which is not open", params.text_document.uri)
            return {"items": []}
        automatic = params.context.trigger_kind == AUTOMATIC
        target = server.target(document, params)
        partial = _streaming(server, document, params.position) if server.options.stream else None
        begin = time.perf_counter()
        suggestions = await server.suggester.suggest(document, target, automatic, partial)
        server.trace(f"{len(suggestions)} suggestions after {1000 * (time.perf_counter() - begin):.1f} ms")
        return {"items": [_inline(server, document, each) for each in suggestions]}

    async def completion(params: CompletionParams) -> dict[str, Any]:
        document = server.documents.get(params.text_document.uri)
        if document is None or not server.options.popup:
            return {"isIncomplete": False, "items": []}
        cursor = server.place(document, params.position)
        target = Target(cursor, cursor, "", document.gap(cursor))
        suggestions = await server.suggester.suggest(document, target, automatic=True)
        return {"isIncomplete": True, "items": [_listed(server, document, each) for each in suggestions]}

    async def next_stop(params: NextStopParams) -> dict[str, Any]:
        return {"length": await server.next_stop(params)}

    server.client.on("textDocument/inlineCompletion", InlineCompletionParams, inline_completion)
    server.client.on("textDocument/completion", CompletionParams, completion)
    server.client.on(NEXT_STOP, NextStopParams, next_stop)


def _register_feedback(server: Server) -> None:
    def counting(what: str) -> Callable[[object], None]:
        def count(params: object) -> None:
            server.suggester.counts[what] += 1

        return count

    async def execute(params: ExecuteCommandParams) -> None:
        arguments = params.arguments or []
        if params.command == RESTART and not arguments:
            await server.load()
        elif params.command == ACCEPTED and [type(each) for each in arguments] == [str]:
            server.suggester.counts["accepted"] += 1
        else:
            raise Refusal(INVALID_PARAMS, f"there is no command {params.command!r} with the arguments {arguments}")

    server.client.on("textDocument/didShowCompletion", Any, counting("displayed"))
    server.client.on("textDocument/didPartiallyAcceptCompletion", Any, counting("partially accepted"))
    server.client.on("workspace/executeCommand", ExecuteCommandParams, execute)
    server.client.on(STATS, Any, lambda params: server.stats())


def _streaming(server: Server, document: Document, position: Position) -> Callable[[str], None]:
    """Sends what is written so far for a place; the standard request can answer only once."""
    identifier = {"uri": document.uri, "version": document.version}
    place = {"line": position.line, "character": position.character}

    def send(text: str) -> None:
        server.client.notify(PARTIAL, {"textDocument": identifier, "position": place, "text": text})

    return send


def _inline(server: Server, document: Document, suggestion: Suggestion) -> dict[str, Any]:
    """An InlineCompletionItem."""
    return {
        "insertText": suggestion.text,
        "filterText": suggestion.text,
        "range": server.range(document, suggestion),
        "command": _accepted(server, document, suggestion),
    }


def _accepted(server: Server, document: Document, suggestion: Suggestion) -> dict[str, Any]:
    """The command that says that a suggestion, which is shown from now on, was taken."""
    return {"title": "Accepted", "command": ACCEPTED, "arguments": [server.accepted.show(document, suggestion)]}


def _listed(server: Server, document: Document, suggestion: Suggestion) -> dict[str, Any]:
    """An entry of the editor's list, a CompletionItem. It replaces the word before the cursor by itself and more, as
    filters expect."""
    text, target = suggestion
    line = document.line(target.start.line)
    column = target.start.column
    begin = column
    while begin and (line[begin - 1].isalnum() or line[begin - 1] == "_"):
        begin -= 1
    word = line[begin:column]
    whole = Suggestion(word + text, Target(type(target.start)(target.start.line, begin), target.end, "", target.gap))
    label = " ".join(whole.text.split())
    return {
        "label": label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…",
        "kind": TEXT,
        "detail": "viable",
        "documentation": {"kind": "markdown", "value": f"```python\n{whole.text}\n```"},
        "filterText": whole.text,
        "insertTextFormat": PLAIN,
        "insertTextMode": AS_IS,
        "textEdit": {"range": server.range(document, whole), "newText": whole.text},
        "command": _accepted(server, document, suggestion),
    }


async def _pulled(server: Server, otherwise: Callable[[], Options]) -> Options:
    """The options as the workspace has them; `otherwise` where it has none, and as they are if the client does not
    tell."""
    if not (server.capabilities and server.capabilities.has_configuration):
        return server.options
    try:
        values = await server.client.ask("workspace/configuration", {"items": [{"section": SECTION}]})
    except Refusal as error:
        log.info("the client has no configuration: %s", error)
        return server.options
    return _parsed(server, values[0], server.initial) if isinstance(values, list) and any(values[:1]) else otherwise()


def _parsed(server: Server, values: object, base: Options) -> Options:
    """Options over those that the client began with: what it no longer says is as it was then. Where they make no sense
    the user is told, and those that hold stay."""
    try:
        return parse(values, base)
    except ValueError as error:
        log.error("%s", error)
        server.show(WARNING, str(error))
        return server.options
