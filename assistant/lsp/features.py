"""The messages that the server answers: fetch the document, ask, convert."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from assistant.lsp.documents import Document
from assistant.lsp.options import SECTION, Options, parse
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


def register(server: Server) -> None:
    """Connect the messages to the server."""
    _register_lifecycle(server)
    _register_suggestions(server)
    _register_feedback(server)


def _register_lifecycle(server: Server) -> None:
    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        server.initial = server.options = _parsed(server, params.initialization_options, Options())

    @server.feature(types.INITIALIZED)
    async def initialized(params: types.InitializedParams) -> None:
        # A client without a configuration may have sent one unasked meanwhile: that stays.
        server.options = await _pulled(server, otherwise=lambda: server.options)
        await server.load()

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def did_change_configuration(params: types.DidChangeConfigurationParams) -> None:
        if isinstance(params.settings, dict) and SECTION in params.settings:
            options = _parsed(server, params.settings[SECTION], server.initial)
        else:
            options = await _pulled(server, otherwise=lambda: server.initial)
        await server.configure(options)

    @server.command(RESTART)
    async def restart() -> None:
        await server.load()


def _register_suggestions(server: Server) -> None:
    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline_completion(params: types.InlineCompletionParams) -> types.InlineCompletionList:
        document = server.documents.get(params.text_document.uri)
        if document is None:
            log.info("a request for %s, which is not open", params.text_document.uri)
            return types.InlineCompletionList([])
        automatic = params.context.trigger_kind == types.InlineCompletionTriggerKind.Automatic
        target = server.target(document, params)
        partial = _streaming(server, document, params.position) if server.options.stream else None
        begin = time.perf_counter()
        suggestions = await server.suggester.suggest(document, target, automatic, partial)
        server.trace(f"{len(suggestions)} suggestions after {1000 * (time.perf_counter() - begin):.1f} ms")
        return types.InlineCompletionList([_inline(server, document, each) for each in suggestions])

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=TRIGGERS))
    async def completion(params: types.CompletionParams) -> types.CompletionList:
        document = server.documents.get(params.text_document.uri)
        if document is None or not server.options.popup:
            return types.CompletionList(is_incomplete=False, items=[])
        cursor = server.place(document, params.position)
        target = Target(cursor, cursor, "", document.gap(cursor))
        suggestions = await server.suggester.suggest(document, target, automatic=True)
        return types.CompletionList(True, [_listed(server, document, each) for each in suggestions])


def _register_feedback(server: Server) -> None:
    @server.feature("textDocument/didShowCompletion")
    def did_show(params: Any) -> None:
        server.suggester.counts["displayed"] += 1

    @server.feature("textDocument/didPartiallyAcceptCompletion")
    def did_partially_accept(params: Any) -> None:
        server.suggester.counts["partially accepted"] += 1

    @server.feature(NEXT_STOP)
    async def next_stop(params: Any) -> dict[str, Any]:
        return {"length": await server.next_stop(params)}

    @server.command(ACCEPTED)
    def accepted(name: str) -> None:
        server.suggester.counts["accepted"] += 1

    @server.feature(STATS)
    def stats(params: Any) -> dict[str, Any]:
        return server.stats()


def _streaming(server: Server, document: Document, position: types.Position) -> Callable[[str], None]:
    """Sends what is written so far for a place; the standard request can answer only once."""
    identifier = {"uri": document.uri, "version": document.version}
    place = {"line": position.line, "character": position.character}

    def send(text: str) -> None:
        server.protocol.notify(PARTIAL, {"textDocument": identifier, "position": place, "text": text})

    return send


def _inline(server: Server, document: Document, suggestion: Suggestion) -> types.InlineCompletionItem:
    name = server.accepted.show(document, suggestion)
    return types.InlineCompletionItem(
        insert_text=suggestion.text,
        filter_text=suggestion.text,
        range=server.range(document, suggestion),
        command=types.Command("Accepted", ACCEPTED, arguments=[name]),
    )


def _listed(server: Server, document: Document, suggestion: Suggestion) -> types.CompletionItem:
    """An entry of the editor's list. It replaces the word before the cursor by itself and more, as filters expect."""
    text, target = suggestion
    line = document.line(target.start.line)
    column = target.start.column
    begin = column
    while begin and (line[begin - 1].isalnum() or line[begin - 1] == "_"):
        begin -= 1
    word = line[begin:column]
    whole = Suggestion(word + text, Target(type(target.start)(target.start.line, begin), target.end, "", target.gap))
    label = " ".join(whole.text.split())
    name = server.accepted.show(document, suggestion)
    return types.CompletionItem(
        label=label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…",
        kind=types.CompletionItemKind.Text,
        detail="viable",
        documentation=types.MarkupContent(types.MarkupKind.Markdown, f"```python\n{whole.text}\n```"),
        filter_text=whole.text,
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs,
        text_edit=types.TextEdit(server.range(document, whole), whole.text),
        command=types.Command("Accepted", ACCEPTED, arguments=[name]),
    )


async def _pulled(server: Server, otherwise: Callable[[], Options]) -> Options:
    """The options as the workspace has them; `otherwise` where it has none, and as they are if the client does not
    tell."""
    workspace = server.client_capabilities.workspace
    if not (workspace and workspace.configuration):
        return server.options
    items = [types.ConfigurationItem(section=SECTION)]
    try:
        values = await server.workspace_configuration_async(types.ConfigurationParams(items))
    except JsonRpcException as error:
        log.info("the client has no configuration: %s", error)
        return server.options
    return _parsed(server, values[0], server.initial) if values and values[0] else otherwise()


def _parsed(server: Server, values: object, base: Options) -> Options:
    """Options over those that the client began with: what it no longer says is as it was then. Where they make no sense
    the user is told, and those that hold stay."""
    try:
        return parse(values, base)
    except ValueError as error:
        log.error("%s", error)
        server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, f"Viable: {error}"))
        return server.options
