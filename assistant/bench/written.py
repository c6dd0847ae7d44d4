"""`viable bench written`: validated tokens per second as they are served, on a processor beside llama.cpp.

Ours fills gaps and goes on with the beginnings of held-out files as a user would have it: validator, drafts, adapter,
T = 0. On a processor llama.cpp reads the same prompts and takes the same tokens one by one, choosing the best of its
own at each, as plain greedy decoding does. Prompts are not timed. Each engine runs in a process of its own, in turns.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import click

from assistant import store
from assistant.bench.processes import measured_by
from assistant.errors import UsageProblem
from assistant.settings import DEFAULT_MODEL, Settings

CONTEXT = 2048
"""Tokens of a prompt and its answer at most."""


class Text(TypedDict):
    """What is written for one prompt."""

    kind: str
    left: str
    right: str
    prompt: list[int]
    ids: list[int]


class Figures(TypedDict):
    """What one process measured."""

    tokens: int
    seconds: float
    tokens_per_second: float
    tokens_per_pass: float


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--llama/--no-llama", default=None, help="Measure llama.cpp too. [where llama_cpp is installed]")
@click.option("--plain/--no-plain", default=True, help="Measure ours token by token too. [yes]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where ours runs. [cpu]")
@click.option("--dtype", default="auto", help="What the weights are kept in. [auto]")
@click.option("--threads", type=int, help="Threads of both. [as many as torch takes]")
@click.option("--files", default=4, help="Held-out files: two gaps and one beginning of each. [4]")
@click.option("--tokens", default=96, help="Tokens per text at most. [96]")
@click.option("--rounds", default=3, help="Processes per engine, in turns. [3]")
@click.option(
    "--site",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=sysconfig.get_path("purelib"),
    help="Where packages are installed. [this environment's]",
)
@click.option("--child", hidden=True, type=click.Choice(["blocks", "plain", "llama"]))
@click.option("--texts", hidden=True, type=click.Path(path_type=Path))
def command(
    model: str,
    llama: bool | None,
    plain: bool,
    device: str,
    dtype: str,
    threads: int | None,
    files: int,
    tokens: int,
    rounds: int,
    site: Path,
    child: str | None,
    texts: Path | None,
) -> None:
    """Validated tokens per second with drafts, token by token, and of llama.cpp. Ends in one line of JSON."""
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    if child is not None and texts is not None:
        settings = Settings(model=model, device=device, dtype=dtype, offline=True, context=CONTEXT, max_tokens=tokens)
        measures: dict[str, Callable[[], Figures]] = {
            "blocks": lambda: measure_ours(settings, threads, texts),
            "plain": lambda: measure_ours(settings.replaced(block=1), threads, texts),
            "llama": lambda: measure_llama(store.resolve(model).path, threads, texts),
        }
        click.echo(json.dumps(measures[child]()))
        return
    installed = importlib.util.find_spec("llama_cpp") is not None
    if llama and not installed:
        raise UsageProblem("llama_cpp is not installed: pip install llama-cpp-python")
    if llama and device != "cpu":
        raise UsageProblem("llama.cpp is measured on a processor only: leave --llama or --device out")
    with_llama = llama or (llama is None and installed and device == "cpu")
    engines = ["blocks", *(["plain"] if plain else []), *(["llama"] if with_llama else [])]
    found: dict[str, list[Figures]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.json")
        path.write_text(json.dumps(cut_texts(site, files)), encoding="utf-8")
        asked = [model, "--device", device, "--dtype", dtype]
        asked += ["--threads", str(threads), "--tokens", str(tokens), "--texts", str(path)]
        for _ in range(rounds):
            for engine in engines:
                found[engine].append(measured_by("assistant.bench.written", [*asked, "--child", engine]))
    rates = {engine: statistics.median(run["tokens_per_second"] for run in runs) for engine, runs in found.items()}
    record: dict[str, Any] = {"bench": "written", "model": model, "device": device, "dtype": dtype}
    record |= {"threads": threads, "files": files}
    click.echo(f"{'':<10}{'tokens':>10}{'tokens/s':>10}{'tok/pass':>10}" + (f"{'x llama':>10}" if with_llama else ""))
    for engine, runs in found.items():
        last = runs[-1]
        record[engine] = {**last, "tokens_per_second": round(rates[engine], 2)}
        share = f"{rates[engine] / rates['llama']:>10.2f}" if with_llama else ""
        click.echo(f"{engine:<10}{last['tokens']:>10}{rates[engine]:>10.1f}{last['tokens_per_pass']:>10.2f}{share}")
    if with_llama:
        record["blocks_over_llama"] = round(rates["blocks"] / rates["llama"], 3)
    record["machine"] = f"{_machine(device)}, {platform.system()}, Python {platform.python_version()}"
    click.echo(json.dumps(record))


def cut_texts(site: Path, count: int) -> list[Text]:
    """Two gaps and one beginning of each of `count` held-out files, with nothing written yet."""
    from assistant.eval import fim

    files = fim.required(site, count, 0)
    found: list[Text] = []
    for gap in fim.gaps(files, 0):
        if gap.shape != "line end":
            found.append({"kind": gap.shape, "left": gap.prefix, "right": gap.suffix, "prompt": [], "ids": []})
    for begun in fim.beginnings(files):
        found.append({"kind": begun.shape, "left": begun.prefix, "right": "", "prompt": [], "ids": []})
    return found


def measure_ours(settings: Settings, threads: int, path: Path) -> Figures:
    """Write all texts; the prompts and tokens of blocks are left in the file for llama.cpp."""
    import torch

    from assistant import prompt as prompts
    from assistant.completion import Request
    from assistant.document import Gap
    from assistant.session import open_session
    from model import load_tokenizer

    torch.set_num_threads(threads)
    session = open_session(settings)
    tokenizer = load_tokenizer(store.resolve(settings.model, offline=True).path)
    texts: list[Text] = json.loads(path.read_text(encoding="utf-8"))
    session.complete(Request(Gap("def f(x):\n    return ", "\n"), max_tokens=16))
    session.forget()
    written, passes, seconds = 0, 0, 0.0
    for text in texts:
        begin, count, ids = 0.0, 0, list[int]()
        for chunk in session.stream(Request(Gap(text["left"], text["right"]), tries=1)):
            # The first pass ends with the prompt read and the first tokens written; it is not timed.
            if not begin:
                begin, count = time.perf_counter(), len(chunk.step.ids)
            else:
                passes += 1
            ids += chunk.step.ids
        seconds += time.perf_counter() - begin
        written += len(ids) - count
        text["ids"] = ids
        room = session.capacity - settings.max_tokens
        text["prompt"] = list(prompts.build(tokenizer, text["left"], text["right"], room).ids)
    if settings.block > 1:
        path.write_text(json.dumps(texts), encoding="utf-8")
    return _figures(written, passes, seconds)


def measure_llama(path: Path, threads: int, texts: Path) -> Figures:
    """The same tokens through llama-cpp-python: one pass for each, and the best of its row."""
    llama_cpp: Any = importlib.import_module("llama_cpp")  # not a dependency, and not typed

    engine = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False)
    written, seconds = 0, 0.0
    read: list[Text] = json.loads(texts.read_text(encoding="utf-8"))
    for text in read:
        engine.reset()
        engine.eval(text["prompt"])
        engine.sample(temp=0.0)
        begin = time.perf_counter()
        for token in text["ids"]:
            engine.eval([token])
            engine.sample(temp=0.0)
        seconds += time.perf_counter() - begin
        written += len(text["ids"])
    engine.close()
    return _figures(written, written, seconds)


def _machine(device: str) -> str:
    import torch

    return platform.machine() if device == "cpu" else torch.cuda.get_device_name()


def _figures(tokens: int, passes: int, seconds: float) -> Figures:
    return {
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 3),
        "tokens_per_pass": round(tokens / passes, 3),
    }


if __name__ == "__main__":
    command()
