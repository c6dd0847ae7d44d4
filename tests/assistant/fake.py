"""A session without a model, and the command line run inside the test's own process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest

from assistant.__main__ import run
from assistant.completion import Completion, Request
from assistant.judge import refusal
from assistant.settings import Settings
from validators import ReferenceValidator


@dataclass
class FakeSession:
    """Fills gaps with what a function of the request says. Counts what it is asked to do."""

    answer: Callable[[Request], str] = lambda request: "pass\n"
    settings: Settings = field(default_factory=Settings)
    name: str = "fake"
    device: str = "cpu"
    capacity: int = 4096
    requests: list[Request] = field(default_factory=list)
    opened: int = 0
    forgotten: int = 0

    def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        text = self.answer(request)
        gap = request.gap
        problems = (validator := ReferenceValidator()).problems(validator.start(gap.prefix, gap.suffix))
        reason = "the file is broken" if problems else None
        return Completion(
            text=text,
            valid=refusal(gap.filled(text)) is None,
            finish_reason="end" if text else "dead end",
            reason=reason if text else "nothing that the model wrote parses in its place",
            tokens=len(text),
            passes=len(text) // 2,
            drafted=len(text) // 2,
            accepted=len(text) // 3,
            fallbacks=1,
            avoided=len(text) % 3,
            prompt_tokens=len(gap.prefix) + len(gap.suffix),
            ms_first=1.0,
            ms_total=2.0,
            tokens_per_second=3.0,
            model=self.name,
            device=self.device,
            problems=problems,
        )

    def turns(self, request: Request) -> Generator[None, None, Completion]:
        yield
        return self.complete(request)

    def forget(self) -> None:
        self.forgotten += 1

    def open(self, settings: Settings) -> FakeSession:
        self.opened += 1
        self.settings = settings
        return self

    def open_several(self, settings: Settings, count: int = 0) -> list[FakeSession]:
        """As many as are asked for; they count together."""
        return [self.open(settings)] * (count or 1)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    """Standard output, with its line ends as they are."""
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr."""
        assert self.err.startswith("viable: "), self.err
        assert self.err.count("\n") == 1, f"more than one line on stderr: {self.err!r}"
        return self.err.removeprefix("viable: ").rstrip("\n")


class Shell:
    """Runs `viable …` in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> None:
        self._patch = patch
        self._capture = capture

    def __call__(self, *arguments: Any, stdin: bytes | None = None) -> Ran:
        if stdin is not None:
            self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        self._capture.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = self._capture.readouterr()
        return Ran(code, out.decode(), err.decode())
