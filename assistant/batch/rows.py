"""What is to be done: rows of JSON, read and told apart."""

from __future__ import annotations

import gzip
import hashlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from assistant.document import CURSOR_MARK, Gap, NotSource, decode, gap_at_mark, read_bytes
from assistant.errors import UsageProblem, ViableError
from assistant.interrupts import read_all
from assistant.settings import MOST_TRIES

STDIN = "-"

Kind = Literal["row", "openai", "file"]

Tries = Annotated[int, msgspec.Meta(ge=1, le=MOST_TRIES)]

FilledGap = Callable[[str, str], Gap | None]
"""From a file's name and text to the gap in it that an earlier run has filled; None where that is not the text."""


class PromptRow(msgspec.Struct):
    """As in HumanEval. Fields that are not named here are left alone."""

    prompt: str
    suffix: str = ""
    task_id: str | int | None = None
    id: str | int | None = None
    tries: Tries | None = None


class GapRow(msgspec.Struct):
    """Text on both sides of a gap."""

    prefix: str = ""
    suffix: str = ""
    task_id: str | int | None = None
    id: str | int | None = None
    tries: Tries | None = None


class OpenAIBody(msgspec.Struct):
    """The parameters of `/v1/completions` that are served, and those that would change the answer if they were."""

    prompt: str
    suffix: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    n: int | None = None
    best_of: Tries | None = None
    """Served as `tries`, of a single answer."""
    echo: bool | None = None
    stream: bool | None = None
    logprobs: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class OpenAIRow(msgspec.Struct):
    """One request of an OpenAI batch."""

    custom_id: str
    method: Literal["POST"]
    url: str
    body: OpenAIBody


NOT_SERVED = ("echo", "stream", "logprobs", "stop", "logit_bias", "presence_penalty", "frequency_penalty")
"""Parameters that must be absent or say nothing."""
SERVED = (*((name, name) for name in ("max_tokens", "temperature", "top_p", "seed")), ("tries", "best_of"))
"""Settings that go before the command line's, and the parameters of a request that they are."""


@dataclass(frozen=True)
class Task:
    """One row of the input."""

    kind: Kind
    name: str | int
    """What the answer is called: the row's own id, or its number in the input."""
    identity: str
    """What tells it from other rows wherever it stands: its id, or a hash of its text where it has none."""
    where: str
    """File and line, for messages."""
    gap: Gap | None
    """None where the row cannot be read; `problem` then says why."""
    problem: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that the row itself asks for."""
    model: str | None = None
    """The model that the row itself asks for."""
    choices: int | None = None
    """How many answers the row itself asks for."""
    number: int = 0
    """Its place in the input, from 1. Files without a mark count too: a file that is filled moves no other."""
    filled: bool = False
    """Whether it is a file that an earlier run has filled, so that only that run's answer may be its answer."""


def read_tasks(inputs: Iterable[str], filled: FilledGap = lambda name, text: None) -> list[Task]:
    """All rows of JSON Lines files (`.jsonl`, gzipped too, or `-`), and all other files that hold a cursor mark or
    that an earlier run has filled. UsageProblem for what cannot be read."""
    tasks: list[Task] = []
    number = 0
    for name in inputs:
        if name == STDIN or name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
            rows = list(_rows(name, number))
            tasks.extend(rows)
            number += len(rows)
        else:
            number += 1
            if task := _file(name, filled):
                tasks.append(replace(task, number=number))
    return tasks


def _rows(name: str, before: int) -> Iterator[Task]:
    shown = "<stdin>" if name == STDIN else name
    for number, line in enumerate(_lines(name), 1):
        if line.strip():
            before += 1
            yield replace(parse(line, f"{shown}:{number}", before), number=before)


def _lines(name: str) -> list[bytes]:
    try:
        data = read_all(sys.stdin.buffer) if name == STDIN else read_bytes(Path(name))
        if name.endswith(".gz"):
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ViableError(f"{name}: not a whole gzip file: {error}") from None
    return data.split(b"\n")


def parse(line: bytes, where: str, number: int) -> Task:
    """One line of JSON as a task; what is wrong with it is part of the task. `number` names rows without an id."""
    fields: Any = None
    try:
        fields = msgspec.json.decode(line)
        if not isinstance(fields, dict):
            raise msgspec.ValidationError(f"a row must be an object, not {type(fields).__name__}")
        return _OF_KIND[_kind(fields)](fields, line, where, number)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _bad(fields, line, where, number, str(error))


def _kind(fields: dict[str, Any]) -> str:
    if "custom_id" in fields:
        return "openai"
    if "prompt" in fields:
        return "prompt"
    if "prefix" in fields or "suffix" in fields:
        return "gap"
    raise msgspec.ValidationError("a row needs `prompt`, or `prefix` and `suffix`, or `custom_id` and `body`")


def _prompt(fields: dict[str, Any], line: bytes, where: str, number: int) -> Task:
    row = msgspec.convert(fields, PromptRow)
    return _task("row", _first(row.task_id, row.id), row.prompt, row.suffix, where, number, changes=_changes(row))


def _gap(fields: dict[str, Any], line: bytes, where: str, number: int) -> Task:
    row = msgspec.convert(fields, GapRow)
    return _task("row", _first(row.task_id, row.id), row.prefix, row.suffix, where, number, changes=_changes(row))


def _changes(row: PromptRow | GapRow) -> dict[str, Any]:
    return {} if row.tries is None else {"tries": row.tries}


def _openai(fields: dict[str, Any], line: bytes, where: str, number: int) -> Task:
    if fields.get("url") != "/v1/completions":
        return _bad(fields, line, where, number, f"url {fields.get('url')!r} is not served, only /v1/completions is")
    body = msgspec.convert(fields, OpenAIRow).body
    for name in NOT_SERVED:
        if getattr(body, name):
            return _bad(fields, line, where, number, f"{name} is not supported")
    if body.n is not None and not 1 <= body.n <= 128:
        return _bad(fields, line, where, number, f"n must be from 1 to 128, not {body.n}")
    if (body.best_of or 1) > 1 and (body.n or 1) > 1:
        return _bad(fields, line, where, number, "best_of is served for a single answer, not with n")
    return _task(
        "openai",
        fields["custom_id"],
        body.prompt,
        body.suffix or "",
        where,
        number,
        changes={setting: value for setting, name in SERVED if (value := getattr(body, name)) is not None},
        model=body.model,
        choices=body.n or 1,
    )


_OF_KIND = {"prompt": _prompt, "gap": _gap, "openai": _openai}


def _file(name: str, filled: FilledGap) -> Task | None:
    """A file with a cursor mark, or that an earlier run has filled; None for any other."""
    data = read_bytes(Path(name))
    try:
        text = decode(data, name)
        if gap := filled(name, text):  # asked first: what was filled in may read like a mark
            return Task("file", name, _identity(name), name, gap, filled=True)
        return Task("file", name, _identity(name), name, gap_at_mark(text)) if CURSOR_MARK in text else None
    except NotSource as problem:
        if CURSOR_MARK.encode() not in data:
            return None
        return Task("file", name, _identity(name), name, None, problem=str(problem))
    except UsageProblem as problem:
        return Task("file", name, _identity(name), name, None, problem=f"{name}: {problem}")


def _task(kind: Kind, own: str | int | None, left: str, right: str, where: str, number: int, **more: Any) -> Task:
    name = number if own is None else own
    identity = _identity(own) if own is not None else hashlib.sha256(f"{len(left)} {left}{right}".encode()).hexdigest()
    if "\0" in left + right:
        return Task(
            kind, name, identity, where, None, problem=f"{where}: holds a NUL character, which no Python source may"
        )
    return Task(kind, name, identity, where, Gap(left, right), **more)


def _bad(fields: Any, line: bytes, where: str, number: int, problem: str) -> Task:
    """A row that cannot be served, under its own name where it has one that can be read."""
    fields = fields if isinstance(fields, dict) else {}
    kind: Kind = "openai" if "custom_id" in fields else "row"
    own = fields.get("custom_id") if kind == "openai" else _first(fields.get("task_id"), fields.get("id"))
    name = own if isinstance(own, str) or (isinstance(own, int) and kind == "row") else number
    return Task(kind, name, hashlib.sha256(line).hexdigest(), where, None, problem=f"{where}: {problem}")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _identity(name: str | int) -> str:
    return msgspec.json.encode(name).decode()
