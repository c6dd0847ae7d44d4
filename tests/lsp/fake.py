"""A session without a model, and a language server around it: `python -m tests.lsp.fake`.

It writes what the file itself asks for, a few characters a pass: the last line left of the gap that reads
`#> "text"` holds the text as JSON, with `#> ["first", "second", …]` for the samples of a request. Without such a line
it writes `DEFAULT`; "beside" has it write what it is told of other files. FAKE_PASS_MS is how long a pass takes.
Loading ends no sooner than there is a file of the name FAKE_LOAD_UNTIL.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assistant.completion import Completion, Request
from assistant.errors import ViableError
from assistant.judge import refusal
from assistant.lsp import serve
from assistant.lsp.options import Options
from assistant.lsp.progress import EditorReporter, Report
from assistant.lsp.worker import Halt

DEFAULT = "total = 1 + 2"
PER_PASS = 4
"""Characters."""
SCRIPT = re.compile(r"^[ \t]*#> (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class FakeChunk:
    text: str
    completion: Completion | None = None


class FakeSession:
    """Fills gaps by rote and keeps account of it."""

    def __init__(self, pass_ms: float = 0.0) -> None:
        self.pass_ms = pass_ms
        self.requests: list[Request] = []
        self.passes = 0
        self.busy = threading.Event()
        """Set while a request is served."""

    def stream(self, request: Request, interrupt: Halt) -> Iterator[FakeChunk]:
        self.requests.append(request)
        wanted = script(request)
        if wanted == "beside":
            around = request.beside()
            wanted = f"# {json.dumps([around.path, [list(e.parts) for e in around.excerpts]])}"
        if wanted == "fault":
            raise RuntimeError("the fake session was asked to fail")
        self.busy.set()
        try:
            text, finish = "", "end"
            while len(text) < len(wanted):
                if stop := interrupt():
                    finish = stop
                    while text and refusal(request.gap.filled(text)) is not None:
                        text = text[:-1]
                    break
                self.passes += 1
                time.sleep(self.pass_ms / 1000)
                text += (piece := wanted[len(text) : len(text) + PER_PASS])
                yield FakeChunk(piece)
            yield FakeChunk("", self.completion(request, text, finish))
        finally:
            self.busy.clear()

    def completion(self, request: Request, text: str, finish: str) -> Completion:
        return Completion(
            text=text,
            valid=refusal(request.gap.filled(text)) is None,
            finish_reason=finish,
            reason=None,
            tokens=len(text),
            passes=-(-len(text) // PER_PASS),
            drafted=0,
            accepted=0,
            fallbacks=0,
            avoided=0,
            prompt_tokens=len(request.gap.left),
            ms_first=0.0,
            ms_total=0.0,
            tokens_per_second=0.0,
            model="fake",
            device="none",
        )


def script(request: Request) -> str:
    """What a request's file asks to be written."""
    found = SCRIPT.findall(request.gap.prefix)
    if not found:
        return DEFAULT
    texts = json.loads(found[-1])
    if isinstance(texts, str):
        return texts
    return str(texts[min(request.seed or 0, len(texts) - 1)])


def opener(options: Options, folder: Path, report: Report) -> FakeSession:
    """Opens a session as late, or as badly, as the environment says; the meter runs while it does."""
    gate = os.environ.get("FAKE_LOAD_UNTIL", "")
    with EditorReporter(report).meter("fake.gguf", 2000) as meter:
        for position in (0, 5, 1000, 1001):
            meter.at(position)
        while gate and not os.path.exists(gate):
            time.sleep(0.01)
        meter.at(2000)
    if options.model == "missing":
        raise ViableError("no such model: missing")
    print("a library that writes to stdout must not reach the client", flush=True)
    return FakeSession(float(os.environ.get("FAKE_PASS_MS", "0")))


if __name__ == "__main__":
    sys.exit(serve(lambda *given: lambda: opener(*given)))
