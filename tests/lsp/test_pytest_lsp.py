"""The server as pytest-lsp's client sees it, which checks each message against the specification."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest
import pytest_lsp
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

pytestmark = pytest.mark.e2e

URI = "file:///project/spec.py"
TEXT = '#> "area = 3 * 4"\n'


@pytest_lsp.fixture(config=ClientServerConfig(server_command=[sys.executable, "-m", "tests.lsp.fake"]))
async def editor(lsp_client: LanguageClient) -> AsyncIterator[None]:
    """A client with Visual Studio Code's capabilities."""
    capabilities = client_capabilities("visual-studio-code")
    options = {"debounceMs": 0}
    await lsp_client.initialize_session(
        types.InitializeParams(capabilities=capabilities, root_uri="file:///work", initialization_options=options)
    )
    yield
    await lsp_client.shutdown_session()


@pytest.mark.filterwarnings("error::pytest_lsp.LspSpecificationWarning")
async def test_a_session_from_open_to_accept(editor: LanguageClient) -> None:
    document = types.TextDocumentIdentifier(URI)
    item = types.TextDocumentItem(URI, "python", 1, TEXT)
    editor.text_document_did_open(types.DidOpenTextDocumentParams(item))
    automatic = types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic)
    position = types.Position(1, 0)
    answer = await editor.text_document_inline_completion_async(
        types.InlineCompletionParams(automatic, document, position)
    )
    assert isinstance(answer, types.InlineCompletionList)
    [suggestion] = answer.items
    assert suggestion.insert_text == "area = 3 * 4"
    assert suggestion.range == types.Range(position, position)
    listed = await editor.text_document_completion_async(types.CompletionParams(document, position))
    assert isinstance(listed, types.CompletionList)
    assert [entry.label for entry in listed.items] == ["area = 3 * 4"]
    assert suggestion.command
    command = types.ExecuteCommandParams(suggestion.command.command, suggestion.command.arguments)
    assert await editor.workspace_execute_command_async(command) is None
    editor.protocol.notify("textDocument/didShowCompletion", {"item": {"insertText": "area = 3 * 4"}})
    editor.protocol.notify("textDocument/didPartiallyAcceptCompletion", {"item": {}, "acceptedLength": 4})
    stats = await editor.protocol.send_request_async("viable/stats", {})
    assert (stats.displayed, stats.partially_accepted, stats.accepted) == (1, 1, 1)
    assert editor.progress_reports["viable/load/1"]
    assert not editor.messages
