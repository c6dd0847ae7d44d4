"""A client that says exactly what it is told to, byte for byte, to a language server process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from assistant.lsp.wire import messages

WAIT = 60.0
"""Seconds for an answer at most."""


class Client:
    """One server process and what it says. Requests return their id; `answer` waits for it."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | (env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.notes: list[dict[str, Any]] = []
        """Notifications and requests of the server, in order."""
        self.stderr: list[bytes] = []
        self.folder = "/project"
        """Where the files that it opens are."""
        self._ids = itertools.count(1)
        self._answers: dict[Any, dict[str, Any]] = {}
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._versions: dict[str, int] = {}
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._read_stderr)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for body in messages(cast(BinaryIO, self.process.stdout)):
            self._inbox.put(json.loads(body))
        self._inbox.put(None)

    def _read_stderr(self) -> None:
        assert self.process.stderr
        self.stderr.extend(self.process.stderr)

    def raw(self, data: bytes) -> None:
        """Write bytes."""
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, message: Any) -> None:
        """Write a message, whatever it is."""
        body = json.dumps(message).encode()
        self.raw(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method: str, params: Any = None) -> int:
        number = next(self._ids)
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    def _pump(self, deadline: float) -> None:
        message = self._inbox.get(timeout=max(deadline - time.monotonic(), 0.001))
        if message is None:
            raise AssertionError(f"the server has gone: {b''.join(self.stderr).decode()}")
        if "method" in message:
            self.notes.append(message)
            if "id" in message:
                self.send({"jsonrpc": "2.0", "id": message["id"], "result": self.replies(message)})
        else:
            self._answers[message.get("id")] = message

    def replies(self, message: dict[str, Any]) -> Any:
        """What the client answers to a request of the server."""
        return [None] if message["method"] == "workspace/configuration" else None

    def answer(self, number: Any, wait: float = WAIT) -> dict[str, Any]:
        """The whole answer to a request, error or result."""
        deadline = time.monotonic() + wait
        while number not in self._answers:
            self._pump(deadline)
        return self._answers.pop(number)

    def call(self, method: str, params: Any = None) -> Any:
        """Request and wait; the result."""
        answer = self.answer(self.request(method, params))
        assert "error" not in answer, answer
        return answer["result"]

    def note(self, method: str, wait: float = WAIT) -> dict[str, Any]:
        """The next notification or request of a method, taken from the list."""
        deadline = time.monotonic() + wait
        while not (found := next((note for note in self.notes if note["method"] == method), None)):
            self._pump(deadline)
        self.notes.remove(found)
        return found

    def initialize(
        self,
        encodings: Sequence[str] = ("utf-16",),
        capabilities: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Shake hands; the server's capabilities. `options` are the initialization options."""
        result = self.call(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": None,
                "capabilities": {
                    "general": {"positionEncodings": list(encodings)},
                    "window": {"workDoneProgress": True},
                    "textDocument": {"inlineCompletion": {}},
                    **(capabilities or {}),
                },
                "initializationOptions": {"debounceMs": 0, **options},
            },
        )
        self.notify("initialized", {})
        return dict(result["capabilities"])

    def open(self, text: str, name: str = "a.py", language: str = "python") -> str:
        """Open a file; its uri."""
        uri = f"file://{self.folder}/{name}"
        self._versions[uri] = 1
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})
        return uri

    def edit(self, uri: str, *changes: dict[str, Any]) -> None:
        """Change a file."""
        self._versions[uri] += 1
        document = {"uri": uri, "version": self._versions[uri]}
        self.notify("textDocument/didChange", {"textDocument": document, "contentChanges": list(changes)})

    def inline(self, uri: str, line: int, column: int, invoked: bool = False, selected: Any = None) -> int:
        """Ask for inline suggestions; the request's id."""
        context = {"triggerKind": 1 if invoked else 2, "selectedCompletionInfo": selected}
        position = {"line": line, "character": column}
        params = {"textDocument": {"uri": uri}, "position": position, "context": context}
        return self.request("textDocument/inlineCompletion", params)

    def texts(self, uri: str, line: int, column: int, invoked: bool = False) -> list[str]:
        """Inline suggestions' texts."""
        items = self.answer(self.inline(uri, line, column, invoked))["result"]["items"]
        return [item["insertText"] for item in items]

    def stats(self) -> dict[str, Any]:
        return dict(self.call("viable/stats", {}))

    def until(
        self, reached: Callable[[dict[str, Any]], bool], wait: float = WAIT, every: float = 0.002
    ) -> dict[str, Any]:
        """Wait for counters of which something is true, asking `every` so many seconds; the counters."""
        deadline = time.monotonic() + wait
        while not reached(stats := self.stats()):
            assert time.monotonic() < deadline, stats
            time.sleep(every)
        return stats

    def close(self) -> int:
        """Say goodbye; the exit code."""
        self.call("shutdown")
        self.notify("exit")
        return self.process.wait(WAIT)

    def kill(self) -> None:
        """End the process, if it has not ended, and let go of its streams."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def insertion(line: int, column: int, text: str) -> dict[str, Any]:
    """An edit that types `text`."""
    place = {"line": line, "character": column}
    return {"range": {"start": place, "end": place}, "text": text}
