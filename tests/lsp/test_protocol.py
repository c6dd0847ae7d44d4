"""What we read and write, held to pygls and lsprotocol, which have the whole protocol from its own description."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from lsprotocol import converters, types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

from assistant import __version__
from assistant.lsp import features, messages
from assistant.lsp.positions import agreed
from assistant.lsp.uris import to_path
from tests.lsp.client import Client, fake_server

CONVERTER = converters.get_converter()
POSITION, DOCUMENT = types.Position(3, 2**31 - 1), types.TextDocumentIdentifier("file:///a.py")
SPAN = types.Range(types.Position(0, 1), POSITION)


def through(message: dict[str, Any], kind: type) -> dict[str, Any]:
    """A message as lsprotocol writes it that has read it: names that it does not know are gone."""
    written: dict[str, Any] = CONVERTER.unstructure(CONVERTER.structure(message, kind))
    return written


@pytest.mark.parametrize(
    "offered", [None, [], ["utf-16"], ["utf-8", "utf-16"], ["utf-32", "utf-8"], ["ebcdic", "utf-8"]]
)
def test_capabilities_are_those_that_pygls_would_advertise(offered: list[str] | None) -> None:
    twin = LanguageServer("viable", __version__)
    twin.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())(lambda params: None)
    twin.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=features.TRIGGERS))(
        lambda params: None
    )
    for name in (features.RESTART, features.ACCEPTED):
        twin.command(name)(lambda: None)
    general = types.GeneralClientCapabilities(position_encodings=offered)
    params = types.InitializeParams(capabilities=types.ClientCapabilities(general=general))
    with pytest.raises(StopIteration) as stop:
        next(twin.protocol.lsp_initialize(params))
    expected = CONVERTER.unstructure(stop.value.value)
    assert expected["capabilities"]["workspace"].pop("fileOperations") == {}
    read = msgspec.convert(CONVERTER.unstructure(params), messages.InitializeParams)
    assert features.advertised(agreed(read.capabilities.encodings)) == expected


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (
            types.InitializeParams(
                process_id=7,
                root_uri="file:///work",
                root_path="/work",
                initialization_options={"candidates": 2},
                capabilities=types.ClientCapabilities(
                    general=types.GeneralClientCapabilities(position_encodings=["utf-8"]),
                    window=types.WindowClientCapabilities(work_done_progress=True),
                    workspace=types.WorkspaceClientCapabilities(configuration=True, apply_edit=True),
                ),
            ),
            messages.InitializeParams,
        ),
        (types.InitializeParams(types.ClientCapabilities()), messages.InitializeParams),
        (types.SetTraceParams(types.TraceValue.Messages), messages.SetTraceParams),
        (types.DidChangeConfigurationParams({"viable": {}}), messages.DidChangeConfigurationParams),
        (types.DidOpenTextDocumentParams(types.TextDocumentItem("a:b", "python", 1, "x\n")), messages.DidOpenParams),
        (
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(-(2**31), "a:b"),
                [
                    types.TextDocumentContentChangePartial(SPAN, "x", range_length=1),
                    types.TextDocumentContentChangeWholeDocument("y"),
                ],
            ),
            messages.DidChangeParams,
        ),
        (types.DidCloseTextDocumentParams(DOCUMENT), messages.DidCloseParams),
        (types.CompletionParams(DOCUMENT, POSITION), messages.CompletionParams),
        (
            types.InlineCompletionParams(
                types.InlineCompletionContext(
                    types.InlineCompletionTriggerKind.Automatic, types.SelectedCompletionInfo(SPAN, "print")
                ),
                DOCUMENT,
                POSITION,
            ),
            messages.InlineCompletionParams,
        ),
        (types.ExecuteCommandParams("a", [1, {"b": None}]), messages.ExecuteCommandParams),
        (types.ExecuteCommandParams("a"), messages.ExecuteCommandParams),
    ],
    ids=lambda each: type(each).__name__ if attrs.has(type(each)) else "",
)
def test_what_a_client_sends_is_read_as_it_means_it(sent: Any, kind: type[msgspec.Struct]) -> None:
    assert_same(msgspec.convert(CONVERTER.unstructure(sent), kind), sent)


def assert_same(ours: Any, theirs: Any) -> None:
    """Every field that we read has the value of the same name."""
    if isinstance(ours, msgspec.Struct):
        for name in ours.__struct_fields__:
            assert_same(getattr(ours, name), getattr(theirs, name, None))
    elif isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


class Configured(Client):
    """A client that is asked for its settings."""

    def replies(self, message: dict[str, Any]) -> Any:
        assert through(message, types.METHOD_TO_TYPES[message["method"]][0]) == message
        return [{"candidates": 0}] if message["method"] == "workspace/configuration" else None


@pytest.mark.e2e
def test_what_the_server_sends_says_nothing_but_what_the_protocol_has() -> None:
    with fake_server(Configured) as client:
        client.initialize(capabilities={"workspace": {"configuration": True}})
        client.notify("$/setTrace", {"value": "verbose"})
        uri = client.open('#> "(1, 2)"\nx = pri', "sent.py")
        place = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 7}}
        for method, params in (
            ("textDocument/inlineCompletion", place | {"context": {"triggerKind": 1}}),
            ("textDocument/completion", place),
            ("workspace/executeCommand", {"command": "viable.restart"}),
            ("workspace/executeCommand", {"command": "no"}),
            ("shutdown", None),
        ):
            answer = client.answer(client.request(method, params))
            kind = types.ResponseErrorMessage if "error" in answer else types.METHOD_TO_TYPES[method][1]
            assert kind
            assert through(answer, kind) == answer
        client.notify("exit")
        assert client.process.wait(60) == 0
    kinds = {note["method"] for note in client.notes}
    assert kinds == {
        "$/logTrace",
        "$/progress",
        "window/logMessage",
        "window/showMessage",
        "window/workDoneProgress/create",
        "workspace/configuration",
    }
    for note in client.notes:
        assert through(note, types.METHOD_TO_TYPES[note["method"]][0]) == note


@pytest.mark.parametrize(
    "uri",
    [
        "file:///srv/a.py",
        "file:///w%C3%B6rk/a%20b%23c.py",
        "file://server/share/a.py",
        "file:///C%3A/srv/a.py",
        "file:///c:/srv/a.py",
        "FILE:///work",
        "file:",
        "untitled:Untitled-1",
        "/srv/a.py",
        "",
        "file:///a?b#c",
    ],
)
def test_paths_are_those_of_pygls(uri: str) -> None:
    assert to_path(uri) == to_fs_path(uri)


def test_an_address_that_makes_no_sense_is_no_path() -> None:
    assert to_path("file://[half/an/address") is None
    assert to_path("file:///a;b.py") == "/a;b.py"
    assert to_path("file:///a%00.py") is None
    assert to_path("file:///\ud800.py") is None
