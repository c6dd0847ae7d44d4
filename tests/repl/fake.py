"""A session that writes what it is told to, at a pace, and a REPL around it. Run as a module, it is that REPL."""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from assistant.completion import Completion, Request
from assistant.judge import refusal
from assistant.repl.options import Options
from assistant.repl.shell import Fault, Shell
from assistant.settings import Settings

_PIECES = re.compile(r"\s*\w+|\s*\S|\s+")


def pieces(text: str) -> list[str]:
    """`text` in pieces about as large as tokens."""
    return _PIECES.findall(text)


class FakeSession:
    """Writes what `answer` says for a program; keeps the longest part by lines that parses. Of several tries it gives
    the last one.

    `closing` is added to what is kept, as a validator's closing text is.
    """

    def __init__(
        self, answer: Callable[[str], str], *, pause: float = 0.0, stop: str = "end", closing: str = ""
    ) -> None:
        self.name = "fake-coder"
        self.device = "cpu"
        self.capacity = 4096
        self.requests: list[Request] = []
        self.steps = 0
        self._answer = answer
        self._pause = pause
        self._stop = stop
        self._closing = closing

    def stream(self, request: Request, interrupt: Callable[[], str | None]) -> Iterator[Any]:
        self.requests.append(request)
        before = request.gap.prefix
        limit = request.max_tokens or 256
        several = (request.tries or 1) > 1
        for attempt in range(1, (request.tries or 1) + 1):
            stop, written = self._stop, ""
            for number, piece in enumerate(pieces(self._answer(before))):
                if reason := interrupt() or ("length" if number >= limit else None):
                    stop = reason
                    break
                time.sleep(self._pause)
                written += piece
                self.steps += 1
                drafted = number % 3
                step = SimpleNamespace(ids=(number,), drafted=drafted, viable=drafted, agreed=drafted // 2, refused=0)
                shown = "" if several else piece
                yield SimpleNamespace(text=shown, step=step, completion=None, written=piece, number=attempt)
                if request.over(written) is not None:
                    stop = "unit"
                    break
        given = written + self._closing
        kept = next((given[:n] for n in _ends(given) if refusal(before + given[:n]) is None), "")
        nothing = SimpleNamespace(ids=(), drafted=0, viable=0, agreed=0, refused=0)
        completion = msgspec.structs.replace(_completion(before, kept, stop, given), tries=attempt)
        shown = written if several else ""
        yield SimpleNamespace(text=shown, step=nothing, completion=completion, written="", number=attempt)


def _ends(text: str) -> Iterator[int]:
    yield len(text)
    yield from (i for i in range(len(text), 0, -1) if text[i - 1] == "\n")


def _completion(before: str, kept: str, stop: str, written: str) -> Completion:
    count = len(pieces(written))
    return Completion(
        text=kept,
        valid=refusal(before + kept) is None,
        finish_reason=stop,
        reason=None,
        tokens=count,
        answer_tokens=count,
        passes=count,
        drafted=count,
        accepted=count // 2,
        fallbacks=count // 2,
        avoided=0,
        prompt_tokens=10,
        ms_first=1.0,
        ms_total=10.0 * count,
        tokens_per_second=42.5,
        model="fake-coder",
        device="cpu",
    )


def no_fault(text: str) -> Fault | None:
    """Finds nothing wrong."""
    return None


def counting() -> Callable[[str], str]:
    """Answers with a function body that goes on for long, a different one each time."""
    numbers = itertools.count()
    return lambda before: "".join(f"    value_{next(numbers)} = {n} + 1\n" for n in range(200))


def main() -> None:
    """`python -m tests.repl.fake ANSWER PAUSE HISTORY [LOADED]`: loading ends when there is a file LOADED."""
    answer, pause, history, *gates = sys.argv[1:]
    reply = Path(answer).read_text(encoding="utf-8") if answer != "counting" else None
    count = counting()

    def opener(settings: Settings) -> FakeSession:
        while not all(map(os.path.exists, gates)):
            time.sleep(0.01)
        return FakeSession((lambda before: reply) if reply is not None else count, pause=float(pause))

    Shell(Settings(), Options(ghost=False), opener=opener, fault=no_fault, history=Path(history)).run()


if __name__ == "__main__":
    main()
