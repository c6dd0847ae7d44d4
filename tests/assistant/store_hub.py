"""A web server on this machine that serves one file and can be told to misbehave, and other helpers for the store."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.store.catalogue import Model
from assistant.store.sources import Source

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(7).randbytes(1_000_003)  # odd, and no multiple of any block


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Answer:
    """How the server behaves on one request."""

    status: int = 200
    ranges: bool = True
    stop_after: int | None = None
    """Bytes sent before the connection is cut."""
    pause: float = 0.0
    """Seconds between two blocks of 20 kB."""
    content: bytes | None = None
    """Served instead of the file."""
    location: str | None = None
    sized: bool = True
    """Whether the answer says how long it is."""
    content_range: str | None = None
    """Said instead of the truth."""
    content_type: str = "application/octet-stream"


@dataclass
class WebServer:
    """Serves `content` at every path. Answers follow `plan`, then `usual`."""

    url: str = ""
    content: bytes = CONTENT
    plan: list[Answer] = field(default_factory=list)
    usual: Answer = Answer()
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Path and first byte of every request."""
    sent: int = 0
    """Bytes of content that were given to the network."""
    dropped: int = 0
    """Connections that the client left."""
    closing: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    web = WebServer()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(match[1]) if match else 0
            with lock:
                web.asked.append((self.path, start))
                answer = web.plan.pop(0) if web.plan else web.usual
            if answer.location is not None:
                self.send_response(302)
                self.send_header("Location", answer.location)
                self.end_headers()
                return
            if answer.status != 200:
                self.send_error(answer.status)
                return
            content = web.content if answer.content is None else answer.content
            if match and answer.ranges:
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                truth = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", answer.content_range or truth)
            else:
                start = 0
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Type", answer.content_type)
            if answer.sized:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            end = len(body) if answer.stop_after is None else min(answer.stop_after, len(body))
            for at in range(0, end, 20_000):
                block = body[at : min(at + 20_000, end)]
                # Counted beforehand: a client that has all it wants may look at the count at once.
                with lock:
                    web.sent += len(block)
                try:
                    self.wfile.write(block)
                except OSError:
                    with lock:
                        web.sent -= len(block)
                    raise
                if web.closing.wait(answer.pause):
                    return

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)
            with lock:
                web.dropped += 1

    with Server(("127.0.0.1", 0), Handler) as server:
        web.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield web
        finally:
            web.closing.set()
            server.shutdown()
            thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def model(*sources: Source, name: str = "small", content: bytes = CONTENT, licence: str = "Apache-2.0") -> Model:
    """A catalogue entry for `content`."""
    return Model(
        name=name,
        file=f"{name}.gguf",
        size=len(content),
        sha256=sha256(content),
        licence=licence,
        credit="Somebody.",
        sources=sources,
    )


def write_own_models(home: Path, site: str, *, content: bytes = CONTENT, **changes: Any) -> None:
    """Put one entry into the `models.toml` of `home`."""
    name = changes.get("name", "small")
    entry = {"name": name, "url": f"{site}/{name}.gguf", "size": len(content), "sha256": sha256(content)} | changes
    lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in entry.items()]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "models.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join(["[[model]]", *lines, ""]))


def environment(home: Path, **changes: str) -> dict[str, str]:
    """The environment of a `viable` process that sees no cache, no hub and no package index of this machine."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "HF_", "VIABLE_"))}
    isolated = {
        "VIABLE_HOME": str(home),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONPATH": str(ROOT),
        "no_proxy": "127.0.0.1",
    }
    return own | isolated | changes


def viable_models(home: Path, *arguments: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `viable models …` to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "assistant", "models", *arguments],
        env=environment(home, **changes),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
