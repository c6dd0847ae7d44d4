"""What a suggestion is told of other files, by the door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lsp.client import PYTHON, Client, fake_server, insertion, server
from tests.tiny import write_tiny_gguf

pytestmark = pytest.mark.e2e

ASKING = '#> "beside"\n'


def told(client: Client, uri: str, line: int) -> Any:
    [text] = client.texts(uri, line, 0)
    return json.loads(text.removeprefix("# "))


def test_imported_definitions_and_open_files_as_the_editor_has_them(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def saved(): ...\ndef other(): ...\n")
    (tmp_path / "secret.py").write_text("KEY = 1\n")
    with fake_server() as client:
        client.folder = str(tmp_path)
        client.initialize(contextFiles=100, exclude=["secret.py"])
        text = "from shop import saved, typed\nfrom secret import KEY\n" + ASKING
        uri = client.open(text, "new.py")
        assert told(client, uri, 3) == ["new.py", [["def saved(): ..."]]]
        shop = client.open("def saved(now): ...\n", "shop.py")
        client.open("SECRET = 1\n", "secret.py")
        client.open("def open_too(): ...\n", "more.py")
        client.open("# prose", "notes.md", "markdown")
        client.edit(uri, insertion(2, 0, "\n"))
        assert told(client, uri, 4) == ["new.py", [["def saved(now): ..."], ["def open_too(): ..."]]]
        client.edit(shop, insertion(1, 0, "typed = 2\n"))
        client.edit(uri, insertion(2, 0, "\n"))
        assert told(client, uri, 5)[1] == [["def saved(now): ...", "typed = 2"], ["def open_too(): ..."]]
        client.notify("textDocument/didClose", {"textDocument": {"uri": shop}})
        client.edit(uri, insertion(2, 0, "\n"))
        assert told(client, uri, 6)[1] == [["def saved(): ..."], ["def open_too(): ..."]], "what is on the disk"
        assert client.close() == 0


def test_a_file_that_is_nowhere_stands_alone() -> None:
    with fake_server() as client:
        client.initialize()
        item = {"uri": "untitled:new", "languageId": "python", "version": 1, "text": "import a\n" + ASKING}
        client.notify("textDocument/didOpen", {"textDocument": item})
        assert told(client, "untitled:new", 2) == ["", []]
        assert client.close() == 0


def test_a_wrong_number_of_tokens_is_said() -> None:
    with fake_server() as client:
        client.initialize(contextFiles=-1)
        assert "contextFiles must be at least 0, not -1" in client.note("window/showMessage")["params"]["message"]
        assert client.close() == 0


def test_a_model_reads_them_only_where_it_is_asked_to(tmp_path: Path) -> None:
    """The same request with the option and without it: the work tells that the prompt was longer."""
    model = write_tiny_gguf(tmp_path)
    (tmp_path / "shop.py").write_text("def count(goods: list[int], kind: str = 'all') -> int:\n    return 1\n")
    prompts = []
    both: tuple[dict[str, Any], ...] = ({}, {"contextFiles": 200})
    for options in both:
        with server([*PYTHON, "-m", "assistant", "lsp", "--model", str(model), "--max-tokens", "4"]) as client:
            client.folder = str(tmp_path)
            client.initialize(**options)
            uri = client.open("from shop import count\n\nprint()\n", "new.py")
            client.texts(uri, 1, 0, invoked=True)
            prompts.append(client.stats()["prompt_tokens"])
            assert client.close() == 0
    assert prompts[1] > prompts[0] + 20
