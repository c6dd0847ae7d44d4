"""The server's answers, against a session that writes by rote."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.lsp.client import Client, fake_server, insertion
from tests.lsp.fake import DEFAULT

pytestmark = pytest.mark.e2e


def asking(*texts: str, head: str = "") -> str:
    """A file whose gap is to be filled with a text, or with one text per sample."""
    return f"{head}#> {json.dumps(texts[0] if len(texts) == 1 else texts)}\n"


def test_capabilities_are_advertised_with_options() -> None:
    with fake_server() as client:
        capabilities = client.initialize(("utf-8", "utf-16"))
        assert capabilities["positionEncoding"] == "utf-8"
        assert capabilities["inlineCompletionProvider"] == {}
        assert capabilities["textDocumentSync"]["change"] == 2
        assert capabilities["completionProvider"]["triggerCharacters"]
        assert client.close() == 0


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 10), ("utf-16", 8), ("utf-32", 7)])
def test_columns_count_in_the_units_agreed_on(encoding: str, column: int) -> None:
    with fake_server() as client:
        client.initialize((encoding,))
        uri = client.open(asking("b") + 's = "😀" + ')
        width = {"utf-8": 4, "utf-16": 2, "utf-32": 1}[encoding]
        cursor = len('s = "') + width + len('" + ')
        client.edit(uri, insertion(1, cursor, "a."))
        [item] = client.answer(client.inline(uri, 1, cursor + 2))["result"]["items"]
        place = {"line": 1, "character": cursor + 2}
        assert item["range"] == {"start": place, "end": place}
        assert item["insertText"] == "b"
        assert client.close() == 0


def test_initialize_is_answered_before_the_model_is_there_and_requests_wait_for_it(tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    with fake_server(FAKE_LOAD_UNTIL=str(loaded)) as client:
        client.initialize()
        assert client.note("window/workDoneProgress/create")["params"]["token"] == "viable/load/1"
        assert client.stats()["state"] == "loading"
        uri = client.open(asking("x = 1"))
        number = client.inline(uri, 1, 0)
        loaded.touch()
        assert [item["insertText"] for item in client.answer(number)["result"]["items"]] == ["x = 1"]
        values = [client.note("$/progress")["params"]["value"]]
        while values[-1]["kind"] != "end":
            values.append(client.note("$/progress")["params"]["value"])
        assert values[0]["kind"] == "begin"
        reported = [(value["message"], value["percentage"]) for value in values[1:-1]]
        # The bar appears when the client has agreed to it; what was before is not told again.
        assert reported == [("fake.gguf (2.0 kB)", percent) for percent in (0, 50, 100)][-len(reported) :]
        assert client.close() == 0


def test_a_model_that_cannot_be_loaded_is_said_once_and_every_request_answered() -> None:
    with fake_server() as client:
        client.initialize(model="missing")
        assert client.note("window/showMessage")["params"]["message"] == "Viable: no such model: missing"
        uri = client.open(asking("x = 1"))
        assert [client.texts(uri, 1, 0) for _ in range(20)] == [[]] * 20
        assert not [note for note in client.notes if note["method"] == "window/showMessage"]
        assert client.close() == 0


def test_options_that_make_no_sense_are_named_and_the_defaults_hold(client: Client) -> None:
    client.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"candidates": 0}}})
    message = client.note("window/showMessage")["params"]["message"]
    assert message == "Viable: options: candidates must be at least 1, not 0"
    uri = client.open(asking("x = 1"))
    assert client.texts(uri, 1, 0) == ["x = 1"]


def test_an_explicit_request_gets_distinct_candidates(client: Client) -> None:
    uri = client.open(asking("x = 1", "x = 1", "x = 2", "x = 2", "x = 3"))
    assert client.texts(uri, 1, 0) == ["x = 1"]
    assert client.texts(uri, 1, 0, invoked=True) == ["x = 1", "x = 2", "x = 3"]


def test_what_does_not_parse_is_withheld_and_counted(client: Client) -> None:
    before = client.stats()["withheld"]
    client.notes.clear()
    uri = client.open(asking("x = ("))
    assert client.texts(uri, 1, 0) == []
    assert client.stats()["withheld"] == before + 1
    assert "does not parse" in client.note("window/logMessage")["params"]["message"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_tabs_are_the_files_own(client: Client, end: str) -> None:
    head = f"def f(a):{end}\t"
    uri = client.open(asking("if a:\n\t\treturn 1\n\treturn 2").replace("\n", end) + head)
    [text] = client.texts(uri, 2, 1)
    assert text == f"if a:{end}\t\treturn 1{end}\treturn 2"
    ast.parse(head + text)


def test_a_selected_entry_is_extended(client: Client) -> None:
    uri = client.open(asking("(1, 2)") + "x = pri")
    span = {"start": {"line": 1, "character": 4}, "end": {"line": 1, "character": 7}}
    number = client.inline(uri, 1, 7, selected={"range": span, "text": "print"})
    [item] = client.answer(number)["result"]["items"]
    assert (item["insertText"], item["range"]) == ("print(1, 2)", span)


def test_the_editors_list_gets_the_word_before_the_cursor_and_what_follows(client: Client) -> None:
    uri = client.open(asking("nt(1)\nprint(2)") + "pri")
    document = {"textDocument": {"uri": uri}, "position": {"line": 1, "character": 3}}
    result = client.call("textDocument/completion", document)
    [item] = result["items"]
    assert item["label"] == "print(1) print(2)"
    start, end = ({"line": 1, "character": column} for column in (0, 3))
    assert item["textEdit"] == {"range": {"start": start, "end": end}, "newText": "print(1)\nprint(2)"}
    assert result["isIncomplete"] is True


def test_form_feeds_and_unicode_separators_end_no_line(client: Client) -> None:
    uri = client.open("\fa = '\u2028\x85'\r\n" + asking("b = 1"))
    client.edit(uri, insertion(1, 0, "c = 2\n"))
    assert client.texts(uri, 3, 0) == ["b = 1"]


@pytest.mark.parametrize(
    ("name", "language", "text"),
    [
        ("a.md", "markdown", asking("x = 1")),
        ("nul.py", "python", asking("x = 1", head="s = '\0'\n")),
        ("surrogate.py", "python", asking("x = 1", head="s = '\ud800'\n")),
    ],
)
def test_what_is_not_python_text_is_left_alone(client: Client, name: str, language: str, text: str) -> None:
    uri = client.open(text, name, language)
    assert client.texts(uri, text.count("\n"), 0) == []


def test_a_file_that_is_not_open_has_no_suggestions(client: Client) -> None:
    assert client.texts("file:///nowhere.py", 0, 0) == []


def test_a_fault_in_one_request_leaves_the_others(client: Client) -> None:
    uri = client.open(asking("fault"))
    assert client.texts(uri, 1, 0) == []
    uri = client.open("", "b.py")
    assert client.texts(uri, 0, 0) == [DEFAULT]
    assert client.stats()["faults"] == 1
