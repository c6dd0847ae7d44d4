"""What a client may do wrong, and what the machine may do to it: the server answers, or ends; it never hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assistant.lsp.options import Options
from tests.lsp.client import PYTHON, ROOT, Client, fake_server, insertion, server

pytestmark = pytest.mark.e2e

WAIT = 60.0
"""Seconds after which a process that should have ended hangs."""


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("body", "number", "code"),
    [
        (b"{", None, -32700),
        (b"\xff\xfe{}", None, -32700),
        (b"[" * 100_000, None, -32700),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "viable/stats"}', None, -32700),
        (b'{"jsonrpc": "2.0", "id": -Infinity, "method": "viable/stats"}', None, -32700),
        (b'{"jsonrpc": "2.0", "id": 1e999, "method": "viable/stats"}', None, -32700),
        (b"[]", None, -32600),
        (b'[{"jsonrpc": "2.0", "id": 905, "method": "viable/stats"}]', None, -32600),
        (b'{"jsonrpc": "2.0", "id": 2.5, "method": "viable/stats"}', 2.5, -32600),
        (b'"text"', None, -32600),
        (b'{"id": 900, "method": "shutdown"}', 900, -32600),
        (b'{"jsonrpc": "2.0", "id": 901, "method": "no/such"}', 901, -32601),
        (b'{"jsonrpc": "2.0", "id": 902, "method": "textDocument/inlineCompletion", "params": {}}', 902, -32602),
        (b'{"jsonrpc": "2.0", "id": 903, "method": "textDocument/inlineCompletion", "params": 7}', 903, -32602),
        (b'{"jsonrpc": "2.0", "id": 904, "method": "initialize", "params": {"capabilities": {}}}', 904, -32600),
        (
            b'{"jsonrpc": "2.0", "id": "x", "method": "workspace/executeCommand", "params": {"command": "no"}}',
            "x",
            -32602,
        ),
    ],
)
def test_broken_messages_are_refused_under_their_id(client: Client, body: bytes, number: object, code: int) -> None:
    client.raw(framed(body))
    error = client.answer(number)["error"]
    assert error["code"] == code
    assert client.stats()["faults"] == 0


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"textDocument": {"uri": "file:///gone"}}},
        {"jsonrpc": "2.0", "method": "textDocument/didOpen"},
        {"jsonrpc": "2.0", "method": "no/such", "params": [1]},
        {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 12345}},
        {"jsonrpc": "2.0", "id": 77, "result": {"never": "asked"}},
        {"jsonrpc": "2.0", "id": 78, "error": {"code": 1, "message": "m"}},
        {"jsonrpc": "1.0", "id": 79, "method": "shutdown"},
    ],
)
def test_messages_that_need_no_answer_do_no_harm(client: Client, message: object) -> None:
    client.send(message)
    assert client.stats()["state"] in ("loading", "ready")


def test_headers_without_sense_are_skipped(client: Client) -> None:
    client.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nContent-Length: -1\r\n\r\n")
    assert client.stats()["state"] in ("loading", "ready")


def test_a_message_comes_in_any_pieces_and_under_any_spelling_of_its_header(client: Client) -> None:
    def asking(number: str, encoding: str = "utf-8") -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": number, "method": "viable/stats"}).encode(encoding)

    for byte in framed(asking("piecewise")):
        client.raw(bytes([byte]))
    client.raw(framed(asking("first of two")) + framed(asking("second of two")))
    wide = asking("wide", "utf-16")
    client.raw(b"content-length:%d\r\nContent-Type: a/b; charset=utf-16\r\n\r\n%s" % (len(wide), wide))
    client.raw(b"\xef\xbb\xbf" + framed(b"\xef\xbb\xbf" + asking("marked")))
    for number in ("piecewise", "first of two", "second of two", "wide", "marked"):
        assert "result" in client.answer(number)


@pytest.mark.parametrize("number", [0, "", -1, 1.0, 10**30, "\ud83d", "é😀"])
def test_an_answer_has_the_id_of_its_request(client: Client, number: object) -> None:
    client.send({"jsonrpc": "2.0", "id": number, "method": "viable/stats"})
    assert "result" in client.answer(number)


@pytest.mark.parametrize("uri", ["", "nonsense", "file://[half/an/address", "file:///a%00.py", "file:///\ud800.py"])
def test_a_file_under_a_name_that_none_can_have_does_no_harm(client: Client, uri: str) -> None:
    document = {"uri": uri, "languageId": "python", "version": 1, "text": '#> "x = 1"\n'}
    client.notify("textDocument/didOpen", {"textDocument": document})
    assert "result" in client.answer(client.inline(uri, 1, 0, invoked=True))
    other = client.open('#> "beside"\n', "other.py")
    assert client.texts(other, 1, 0) == ['# ["other.py", []]']
    assert client.stats()["faults"] == 0
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def test_an_edit_that_makes_no_sense_leaves_the_server_and_the_file(client: Client) -> None:
    uri = client.open('#> "x = 1"\n', "bad-edit.py")
    backwards = {"start": {"line": 1, "character": 0}, "end": {"line": 0, "character": 0}}
    client.edit(uri, {"range": backwards, "text": "!"})
    assert client.texts(uri, 1, 0) == ["x = 1"]


def test_requests_before_initialize_are_refused() -> None:
    with fake_server() as client:
        assert client.answer(client.request("viable/stats", {}))["error"]["code"] == -32002
        client.notify(
            "textDocument/didOpen", {"textDocument": {"uri": "a", "languageId": "", "version": 1, "text": ""}}
        )
        client.initialize()
        assert client.stats()["documents"] == 0
        assert client.close() == 0


def test_nonsense_and_exit_before_initialize_are_borne() -> None:
    with fake_server() as client:
        client.raw(b"nonsense\r\n" + framed(b"{") + framed(b"[]") + framed(b'{"jsonrpc": "2.0", "method": 1}'))
        assert client.answer(None)["error"]["code"] == -32700
        assert client.answer(client.request("shutdown"))["error"]["code"] == -32002
        assert client.answer(client.request("initialize", {"capabilities": 7}))["error"]["code"] == -32602
        assert "positionEncoding" in client.initialize()
        assert client.answer(client.request("initialize", {"capabilities": {}}))["error"]["code"] == -32600
        assert client.close() == 0
    with fake_server() as client:
        client.notify("exit")
        assert client.process.wait(WAIT) == 1


def test_exit_without_shutdown_is_a_failure_and_the_end_of_the_stream_is_one_too() -> None:
    with fake_server() as client:
        client.initialize()
        client.notify("exit")
        assert client.process.wait(WAIT) == 1
    with fake_server(FAKE_LOAD_UNTIL="never") as client:  # and loading does not hold it back
        client.initialize()
        assert client.process.stdin
        client.process.stdin.close()
        assert client.process.wait(WAIT) == 1


def test_a_killed_client_leaves_no_server(tmp_path: object) -> None:
    # The client's child holds the server's stdin open, as an editor's other children may.
    code = (
        "import os, subprocess, sys\n"
        f"server = subprocess.Popen({[*PYTHON, '-m', 'tests.lsp.fake']!r}, stdin=subprocess.PIPE)\n"
        "keeper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],\n"
        "    pass_fds=[server.stdin.fileno()])\n"
        'body = b\'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": '
        '{"processId": %d, "capabilities": {}}}\' % os.getpid()\n'
        "server.stdin.write(b'Content-Length: %d\\r\\n\\r\\n%s' % (len(body), body))\n"
        "server.stdin.flush()\n"
        "print(server.pid, keeper.pid, file=sys.stderr, flush=True)\n"
        "sys.stdin.read()\n"
    )
    editor = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert editor.stderr and editor.stdout and editor.stdin
    served, keeper = map(int, editor.stderr.readline().split())
    assert editor.stdout.readline().startswith(b"Content-Length")
    editor.kill()
    editor.wait()
    try:
        deadline = time.monotonic() + WAIT
        while alive(served):
            assert time.monotonic() < deadline, "the server outlived its client"
            time.sleep(0.05)
    finally:
        os.kill(keeper, signal.SIGKILL)
        for stream in (editor.stdin, editor.stdout, editor.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def test_a_client_that_died_without_reading_leaves_no_server() -> None:
    # Here the client is only said to be another process, so that the pipes outlive it, as with an editor's children.
    editor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    server = subprocess.Popen(
        [*PYTHON, "-m", "tests.lsp.fake"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin and server.stdout
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"processId": editor.pid, "capabilities": {}}}
    try:
        server.stdin.write(framed(json.dumps(hello).encode()))
        for number in range(2, 2000):  # many times as much as a pipe holds
            message = {"jsonrpc": "2.0", "id": number, "method": "viable/stats"}
            server.stdin.write(framed(json.dumps(message).encode()))
        server.stdin.flush()
        editor.kill()
        editor.wait()
        assert server.wait(WAIT) == 1
    finally:
        editor.kill()
        server.kill()
        server.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            server.stdin.close()


def test_leaving_while_the_model_loads_is_no_fault(tmp_path: Path) -> None:
    gate = tmp_path / "loaded"
    with fake_server(FAKE_LOAD_UNTIL=str(gate)) as client:
        client.initialize()
        client.call("shutdown")
        client.notify("exit")
        time.sleep(0.3)  # the event loop has ended, the process waits for the session's thread
        gate.touch()
        assert client.process.wait(WAIT) == 0
        client.kill()
        assert not [line for line in client.stderr if b"Error" in line]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_closed_streams_are_said_in_a_line(closed: str) -> None:
    command = [*PYTHON, "-m", "assistant", "lsp"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], cwd=ROOT, capture_output=True, timeout=WAIT, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"viable: stdin or stdout is closed: an editor has to be at their other end\n"


def alive(process_id: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        with open(f"/proc/{process_id}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def processor_seconds(client: Client) -> float:
    """What the server has computed for: whatever else the machine does, it does not count."""
    with open(f"/proc/{client.process.pid}/stat") as stat:
        user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_second_server_is_independent_of_the_first(client: Client) -> None:
    with fake_server() as second:
        second.initialize()
        one, two = client.open('#> "x = 1"\n', "twin.py"), second.open('#> "x = 2"\n', "twin.py")
        assert (client.texts(one, 1, 0), second.texts(two, 1, 0)) == (["x = 1"], ["x = 2"])
        second.process.kill()
        second.process.wait()
    client.edit(one, {"text": '\n#> "x = 3"\n'})
    assert client.texts(one, 2, 0) == ["x = 3"]


def test_a_file_of_a_megabyte_is_edited_and_completed(client: Client) -> None:
    text = "".join(f"name_{i} = [{i}, {i}]\n" for i in range(40_000))
    assert len(text) > 1_000_000
    uri = client.open(text + '#> "last = 1"\n', "large.py")
    client.stats()
    begin = processor_seconds(client)
    for i in range(100):
        client.edit(uri, insertion(20_000 + i, 0, "\n"))
    client.stats()
    assert processor_seconds(client) - begin < 2.0
    assert client.texts(uri, 40_101, 0) == ["last = 1"]
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})


def test_a_thousand_edits_are_followed_to_the_letter(client: Client) -> None:
    uri = client.open('#> "x = 1"\n', "fast.py")
    typed = "# " + "abc " * 249 + "\n"
    client.stats()
    begin = processor_seconds(client)
    for column, character in enumerate(typed):
        client.edit(uri, insertion(1, column, character))
        if column % 100 == 0:
            client.inline(uri, 1, column + 1)
    assert client.texts(uri, 2, 0) == ["x = 1"]
    assert processor_seconds(client) - begin < 1.0


def test_a_file_that_is_closed_while_it_is_completed() -> None:
    with fake_server(FAKE_PASS_MS="10") as client:
        client.initialize()
        uri = client.open(f"#> {json.dumps('x = 1 + 2 + 3 + 4 + 5')}\n")
        number = client.inline(uri, 1, 0)
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        assert client.answer(number)["result"] == {"items": []}
        assert client.close() == 0


def test_the_command_line_serves_and_says_what_is_wrong() -> None:
    with server([*PYTHON, "-m", "assistant", "lsp", "--stdio", "--model", "./no-such.gguf"]) as client:
        client.initialize()
        message = client.note("window/showMessage")["params"]["message"]
        assert message == "Viable: no such model file or folder: ./no-such.gguf"
        assert client.texts(client.open("x = "), 0, 4) == []
        assert client.close() == 0


@pytest.mark.parametrize(("flag", "value"), [("--device", "tpu"), ("--max-tokens", "0"), ("--max-ms", "-1")])
def test_a_flag_that_makes_no_sense_is_said_at_once(flag: str, value: str) -> None:
    command = [*PYTHON, "-m", "assistant", "lsp", flag, value]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, timeout=WAIT, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"viable: ")
    assert done.stderr.count(b"\n") == 1


def test_limits_of_the_command_line_win_over_the_editor() -> None:
    options = Options(max_tokens=64, max_ms=3000)
    assert options.limited(None, None) == options
    assert options.limited(200, 9000) == Options(max_tokens=200, max_ms=9000)
