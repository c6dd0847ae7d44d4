"""By the real door: `python -m assistant lsp` with a model file."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.cli.lsp import settings_for
from assistant.cli.options import Flags
from assistant.lsp.options import Options
from tests.lsp.client import PYTHON, Client, insertion, server
from tests.tiny import write_tiny_gguf

pytestmark = pytest.mark.e2e

SOURCE = (
    "import math\r\n\r\n\r\ndef area(radius):\r\n\treturn \r\n\r\n\r\nclass Shape:\r\n\tdef size(self):\r\n\t\tpass\r\n"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a tiny random model."""
    model = write_tiny_gguf(tmp_path_factory.mktemp("tiny"))
    with server([*PYTHON, "-m", "assistant", "lsp", "--model", str(model)]) as client:
        client.initialize(maxTokens=12, candidates=2)
        yield client
        assert client.close() == 0


def test_suggestions_of_a_random_model_parse_in_place_and_nothing_fails(tiny: Client) -> None:
    uri = tiny.open(SOURCE, "shape.py")
    lines = SOURCE.split("\r\n")
    for line, column in ((4, 8), (9, 6)):
        for text in tiny.texts(uri, line, column, invoked=True):
            before = "\r\n".join([*lines[:line], lines[line][:column]])
            after = "\r\n".join([lines[line][column:], *lines[line + 1 :]])
            ast.parse(before + text + after)
            assert "\n" not in text.replace("\r\n", "")
    stats = tiny.stats()
    assert (stats["state"], stats["faults"], stats["withheld"]) == ("ready", 0, 0)
    assert stats["filled"] == 2
    assert stats["passes"] >= 2


def test_what_does_not_fit_is_a_line_on_stderr(tiny: Client) -> None:
    tiny.answer(tiny.request("textDocument/inlineCompletion", 7))
    tiny.answer(tiny.request("no/such"))
    tiny.answer(tiny.request("viable/nextStop", {}))
    deadline = time.monotonic() + 10
    while not any(b"no/such" in line for line in tiny.stderr):
        assert time.monotonic() < deadline, tiny.stderr
        time.sleep(0.01)
    assert all(line.startswith(b"viable: ") for line in tiny.stderr), b"".join(tiny.stderr).decode()


def test_the_real_decoder_stops_when_cancelled(tiny: Client) -> None:
    tiny.notify("workspace/didChangeConfiguration", {"settings": {"viable": {"maxTokens": 900, "maxMs": 0}}})
    stopped = tiny.stats()["stopped"]
    uri = tiny.open("def f():\n    ", "long.py")
    number = tiny.inline(uri, 1, 4)
    tiny.until(lambda stats: stats["writing"] > 0)
    tiny.notify("$/cancelRequest", {"id": number})
    assert tiny.answer(number)["error"]["code"] == -32800
    tiny.until(lambda stats: stats["stopped"] > stopped)
    tiny.edit(uri, insertion(1, 4, "pass\n"))
    assert tiny.stats()["faults"] == 0


def test_an_editor_may_have_several_tries(tmp_path: Path) -> None:
    """One suggestion, more passes, and nothing of it shown before it is chosen."""
    model = write_tiny_gguf(tmp_path)
    passes = []
    for tries in (1, 4):
        with server([*PYTHON, "-m", "assistant", "lsp", "--model", str(model)]) as client:
            client.initialize(maxTokens=6, candidates=1, tries=tries, maxMs=0, stream=True)
            uri = client.open("x = [\n\n]\n", "list.py")
            for text in client.texts(uri, 1, 0, invoked=True):
                ast.parse("x = [\n" + text + "\n]\n")
            stats = client.stats()
            assert (stats["state"], stats["faults"], stats["withheld"]) == ("ready", 0, 0)
            passes.append(stats["passes"])
            assert client.close() == 0
    assert passes[1] > passes[0] + 2


@pytest.mark.model
def test_the_default_model_writes_what_is_plain_to_see(default_model: Path) -> None:
    text = 'import math\n\n\ndef area(radius):\n    """The area of a circle."""\n    return \n\n\nprint(area(3))\n'
    with server([*PYTHON, "-m", "assistant", "lsp", "--model", str(default_model)]) as client:
        client.initialize(maxTokens=24)
        uri = client.open(text, "circle.py")
        answer = client.answer(client.inline(uri, 5, 11), wait=300)  # the model has to be loaded first
        [found] = [item["insertText"] for item in answer["result"]["items"]]
        assert "math.pi" in found and "radius" in found
        ast.parse(text.replace("    return \n", f"    return {found}\n"))
        client.edit(uri, insertion(5, 11, "math"))
        passes = client.stats()["passes"]
        assert client.texts(uri, 5, 15) == [found.removeprefix("math")]
        assert client.stats()["passes"] == passes
        assert client.close() == 0


def test_flags_win_over_the_editor_and_the_editor_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "viable.toml").write_text('device = "cpu"\ncontext = 100\nblock = 5\n')
    flags = Flags(model="flag", context=300)
    options = Options(model="editor", context=200, dtype="int8", tries=4)
    settings = settings_for(flags, options, tmp_path)
    assert settings.tries == 4
    assert (settings.model, settings.context, settings.dtype) == ("flag", 300, "int8")
    assert (settings.device, settings.block) == ("cpu", 5)
