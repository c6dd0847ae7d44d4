"""`viable bench lsp`: how the language server feels, measured from the client's side of the pipe."""

from __future__ import annotations

import ast
import contextlib
import json
import platform
import random
import re
import statistics
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from assistant.bench.corpus import Source, standard_library
from assistant.bench.lsp_client import Client, insertion
from assistant.errors import UsageProblem
from assistant.interrupts import held_back

PARTS = ("start", "typing", "cancel", "memory", "validity", "repl")
LOADING = 600.0
"""Seconds that a model may take to load on a machine that is busy with something else."""
WARM_UP = 100
"""Requests before memory is measured: caches fill, allocators settle."""
SITE = re.compile(r"(site|dist)-packages$")
"""Where packages are installed; an environment may show another's."""
SELDOM = 0.05
"""Seconds between two questions while a model loads, which every answer keeps from loading."""
SHORT = 24
"""Tokens of a suggestion where many are asked for."""
NEAR = 512
"""Tokens of prompt and answer together there."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    values: tuple[float, ...]
    unit: str
    goal: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values) if self.values else float("nan")

    @property
    def p95(self) -> float:
        ranked = sorted(self.values) or [float("nan")]
        return ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]

    def row(self) -> str:
        goal = "" if self.goal is None else f"{self.goal:g}"
        return f"{self.what:<46}{self.median:>10.2f}{self.p95:>10.2f}{goal:>8} {self.unit:<4} {self.note}"

    def record(self) -> dict[str, object]:
        shown = {"median": round(self.median, 3), "p95": round(self.p95, 3)} if self.values else {}
        about = {"what": self.what, "n": len(self.values), "unit": self.unit, "goal": self.goal, "note": self.note}
        return about | shown


@click.command()
@click.option("--model", metavar="NAME|PATH", help="Model to serve. [the default model]")
@click.option("--context", default=1024, help="Tokens of prompt and answer together. [1024]")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Measure this alone; may be repeated.")
@click.option("--rounds", default=40, help="Cancellations and typed suggestions. [40]")
@click.option("--requests", default=2000, help="Requests over which memory is followed. [2000]")
@click.option("--positions", default=500, help="Cursor positions at which suggestions are taken. [500]")
@click.option("--seed", default=0, help="Seed of files and positions. [0]")
def command(
    model: str | None, context: int, parts: tuple[str, ...], rounds: int, requests: int, positions: int, seed: int
) -> None:
    """Measure the language server: start, typing, cancelling, memory, and whether files parse; and the REPL's start.

    They run as processes of their own, as in an editor and on a terminal. Ends in one line of JSON.
    """
    named = ["--model", model] if model else []

    def served(tokens: int) -> list[str]:
        return [sys.executable, "-m", "assistant", "lsp", "--context", str(tokens), *named]

    serve = served(context)
    measures: dict[str, Callable[[], list[Figure]]] = {
        "start": lambda: measure_start(serve),
        "typing": lambda: measure_typing(serve, rounds),
        "cancel": lambda: measure_cancel(serve, rounds, seed),
        "memory": lambda: measure_memory(serve, requests, seed),
        "validity": lambda: measure_validity(served(min(context, NEAR)), positions, seed),
        "repl": lambda: measure_repl([sys.executable, "-m", "assistant", "repl", *named]),
    }
    click.echo(f"{'':<46}{'median':>10}{'p95':>10}{'goal':>8}")
    figures: list[Figure] = []
    for name in parts or PARTS:
        for figure in measures[name]():
            figures.append(figure)
            click.echo(figure.row())
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    click.echo(json.dumps({"bench": "lsp", "machine": machine, "figures": [figure.record() for figure in figures]}))


@contextlib.contextmanager
def running(command: Sequence[str], encodings: Sequence[str] = ("utf-16",), **options: Any) -> Iterator[Client]:
    """A client of a server whose model is ready."""
    client = Client(command)
    try:
        client.initialize(encodings, **options)
        if client.until(lambda stats: stats["state"] != "loading", LOADING)["state"] != "ready":
            raise UsageProblem(client.note("window/showMessage")["params"]["message"])
        yield client
        client.close()
    finally:
        client.kill()


def measure_start(command: Sequence[str], times: int = 5) -> list[Figure]:
    """Seconds from starting the process."""
    initialized, ready = [], []
    for _ in range(times):
        begin = time.perf_counter()
        client = Client(command)
        try:
            client.initialize()
            initialized.append(time.perf_counter() - begin)
            client.until(lambda stats: stats["state"] != "loading", LOADING, every=SELDOM)
            ready.append(time.perf_counter() - begin)
            client.close()
        finally:
            client.kill()
    return [
        Figure("start to initialized", tuple(initialized), "s", 0.4),
        Figure("start to model ready", tuple(ready), "s", 4),
    ]


def measure_typing(command: Sequence[str], rounds: int) -> list[Figure]:
    """Milliseconds from a keystroke that the suggestion foresaw to the answer."""
    answered, first = [], []
    with running(command) as client:
        for number in range(rounds):
            text = f"def add_{number}(first, second):\n    return "
            uri = client.open(text, f"typing_{number}.py")
            begin = time.perf_counter()
            found = client.texts(uri, 1, 11)
            first.append(1000 * (time.perf_counter() - begin))
            typed = found[0].split("\n")[0] if found else ""
            for column, character in enumerate(typed[:-1], 11):
                begin = time.perf_counter()
                client.edit(uri, insertion(1, column, character))
                left = client.texts(uri, 1, column + 1)
                answered.append(1000 * (time.perf_counter() - begin))
                assert left and left[0].startswith(typed[column - 10 :]), (typed, left)
    return [
        Figure("keystroke to answer, typed as suggested", tuple(answered), "ms", 5),
        Figure("short file, first suggestion of its place", tuple(first), "ms"),
    ]


def measure_cancel(command: Sequence[str], rounds: int, seed: int) -> list[Figure]:
    """Milliseconds from a cancellation, at a random moment, to the answer and to the decoder's end."""
    rng = random.Random(seed)
    files = _files(rounds, seed)
    answered, stopped = [], []
    with running(command, maxTokens=256, maxMs=0) as client:
        for number in range(rounds):
            source = files[number % len(files)]
            line = rng.randrange(source.text.count("\n") + 1)
            uri = client.open(source.text, f"cancel_{number}.py")
            before = client.stats()["stopped"]
            request = client.inline(uri, line, 0, invoked=True)
            time.sleep(rng.uniform(0.02, 1.0))
            begin = time.perf_counter()
            client.notify("$/cancelRequest", {"id": request})
            if "error" not in client.answer(request):
                continue  # it had been answered before
            answered.append(1000 * (time.perf_counter() - begin))
            stopped.append(_stopped_ms(client, before))
    return [
        Figure("cancel to answer", tuple(answered), "ms"),
        Figure("cancel to stopped decoder", tuple(stopped), "ms", 20, f"most {max(stopped, default=0):.0f} ms"),
    ]


def measure_memory(command: Sequence[str], requests: int, seed: int) -> list[Figure]:
    """Growth in megabytes over requests in 200 files, which are opened, edited and closed."""
    files = [source.text[:600] for source in _files(50, seed)]
    with running(command, maxTokens=2) as client:
        size: list[float] = []
        warm_up = min(WARM_UP, requests)
        for number in range(warm_up + requests):
            if number == warm_up:
                size.append(_megabytes(client.process.pid))
            uri = client.open(files[number % len(files)], f"memory_{number % 200}.py")
            client.edit(uri, insertion(0, 0, f"number_{number} = \n"))
            client.texts(uri, 0, len(f"number_{number} = "))
            if number % 5:
                client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        size.append(_megabytes(client.process.pid))
    growth = size[1] - size[0]
    return [Figure(f"memory growth over {requests} requests", (growth,), "MB", 50, f"{size[1]:.0f} MB in the end")]


def measure_validity(command: Sequence[str], positions: int, seed: int) -> list[Figure]:
    """Share of suggestions after which the file parses: taken whole, line by line and word by word.

    Positions are any between two characters of files that nothing here was trained on, in rising order within a file,
    so that prompts begin alike.
    """
    rng = random.Random(seed)
    files = held_out(max(1, positions // 10), seed)
    places = sorted((number * len(files) // positions, rng.random()) for number in range(positions))
    results: dict[str, list[bool]] = {"whole": [], "a line": [], "a word": []}
    waited: list[float] = []
    broken: list[str] = []
    with running(command, ("utf-32",), candidates=1, maxTokens=SHORT, maxMs=0) as client:
        for number, (file, share) in enumerate(places):
            name, text = files[file]
            offset = int(share * len(text))
            left, right = text[:offset], text[offset:]
            uri = client.open(text, f"validity_{number}.py")
            begin = time.perf_counter()
            found = client.texts(uri, left.count("\n"), offset - (left.rfind("\n") + 1), invoked=True)
            waited.append(1000 * (time.perf_counter() - begin))
            for each in found:
                taken = {
                    "whole": [_parses(left + each + right)],
                    "a line": list(_taken(client, f"line_{number}.py", left, each, right, "line")),
                    "a word": list(_taken(client, f"word_{number}.py", left, each, right, "word")),
                }
                for kind, parsed in taken.items():
                    results[kind] += parsed
                broken += [f"{name} at {offset}" for parsed in taken.values() if not all(parsed)][:1]
            client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        stats = client.stats()
    shown = f"{len(results['whole'])} shown at {positions} positions"
    notes = {"whole": "; ".join([shown, *broken[:3]])}
    return [
        *(
            Figure(
                f"parses after accepting {kind}", _percent(parsed), "%", 100, notes.get(kind, f"{len(parsed)} times")
            )
            for kind, parsed in results.items()
        ),
        Figure("withheld, as it would not have parsed", (float(stats["withheld"]),), ""),
        Figure("position to answer", tuple(waited), "ms"),
    ]


def measure_repl(command: Sequence[str], times: int = 10) -> list[Figure]:
    """Seconds from starting the process to the prompt, behind which the model loads."""
    try:
        from assistant.bench.lsp_terminal import seconds_to_prompt
    except ImportError as error:
        raise UsageProblem(f"there are no terminals to open here: {error}") from None
    return [Figure("REPL: start to prompt", tuple(seconds_to_prompt(command) for _ in range(times)), "s", 0.5)]


def held_out(count: int, seed: int) -> list[tuple[str, str]]:
    """Names and texts of files of installed packages that are held out of all training."""
    with held_back():
        from assistant.eval.fim import collect

    sites = dict.fromkeys([sysconfig.get_path("purelib"), *filter(SITE.search, sys.path)])
    found = next(filter(None, (collect(Path(site), count, seed) for site in sites)), [])
    if not found:
        raise UsageProblem("no held-out package is installed; `pip install networkx` brings one")
    return [(f"{file.package}/{file.path}", file.text) for file in found]


def _stopped_ms(client: Client, before: int) -> float:
    return float(client.until(lambda stats: stats["stopped"] > before)["stop_ms"])


def _taken(client: Client, name: str, left: str, text: str, right: str, kind: str) -> Iterator[bool]:
    """Take a suggestion piece by piece, as the examples' editors do; whether the file parses after each."""
    while text:
        uri = client.open(left + right, name)
        position = {"line": left.count("\n"), "character": len(left) - (left.rfind("\n") + 1)}
        params = {"textDocument": {"uri": uri}, "position": position, "text": text, "kind": kind}
        length = client.call("viable/nextStop", params)["length"]
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        left, text = left + text[:length], text[length:]
        yield _parses(left + right)


def _files(count: int, seed: int) -> list[Source]:
    """Short ASCII files of the standard library."""
    fitting = [each for each in standard_library(20 * count, seed) if len(each.text) < 5000 and each.text.isascii()]
    return [each for each in fitting if "\r" not in each.text][:count]


def _percent(results: Sequence[bool]) -> tuple[float, ...]:
    return (100 * sum(results) / len(results),) if results else ()


def _parses(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(text)
        except SyntaxError:
            return False
    return True


def _megabytes(process_id: int) -> float:
    """Resident memory of a process, from Linux's /proc."""
    status = Path(f"/proc/{process_id}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
