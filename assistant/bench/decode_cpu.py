"""`viable bench decode_cpu`: decoding on a processor, beside llama.cpp on the same file where it is installed.

Each engine runs in processes of its own, in turns, so that neither sees the other's memory and both see the same
machine. Tokens are those of real files, fed as they stand: what is timed is passes, not taste.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant import store
from assistant.bench.corpus import Source, site_packages, standard_library
from assistant.bench.processes import measured_by, megabytes, peak_of
from assistant.errors import UsageProblem
from assistant.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from model import Decoder

PROMPT = 512
"""Tokens of the prompt that is timed, and of a window that is scored."""
WINDOWS = 8
GAP = '''def median(values: list[float]) -> float:
    """The middle value; the mean of the two middle ones where the count is even."""
    <CURSOR>


print(median([3, 1, 2]))
'''
MODULE = "assistant.bench.decode_cpu"
Figures = dict[str, float]


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--llama/--no-llama", default=None, help="Measure llama.cpp too. [where llama_cpp is installed]")
@click.option("--dtype", default="auto", help="What our weights are kept in. [auto]")
@click.option("--threads", type=int, help="Threads of both. [as many as torch takes]")
@click.option("--tokens", default=64, help="Passes that are timed per round. [64]")
@click.option("--rounds", default=3, help="Processes per engine, in turns. [3]")
@click.option("--quality/--no-quality", default=True, help="Score real code in float32 and as loaded. [yes]")
@click.option("--child", hidden=True, type=click.Choice(["ours", "llama", "quality"]))
def command(
    model: str,
    llama: bool | None,
    dtype: str,
    threads: int | None,
    tokens: int,
    rounds: int,
    quality: bool,
    child: str | None,
) -> None:
    """Tokens per second, prompt, memory, and what fewer bits cost. Ends in one line of JSON."""
    path = store.resolve(model).path
    if threads is None:
        import torch

        threads = torch.get_num_threads()
    if child is not None:
        measures: dict[str, Callable[[], Figures]] = {
            "ours": lambda: measure_ours(path, dtype, threads, tokens),
            "llama": lambda: measure_llama(path, threads, tokens),
            "quality": lambda: measure_quality(path, dtype, threads),
        }
        click.echo(json.dumps(measures[child]()))
        return
    installed = importlib.util.find_spec("llama_cpp") is not None
    if llama and not installed:
        raise UsageProblem("llama_cpp is not installed: pip install llama-cpp-python")
    engines = ["ours", "llama"] if llama or (llama is None and installed) else ["ours"]
    asked = [str(path), "--dtype", dtype, "--threads", str(threads), "--tokens", str(tokens)]
    found: dict[str, list[Figures]] = {engine: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            found[engine].append(measured_by(MODULE, [*asked, "--child", engine]))
    medians = {
        engine: {what: statistics.median(each[what] for each in runs) for what in runs[0]}
        for engine, runs in found.items()
    }
    record: dict[str, object] = {"bench": "decode_cpu", "model": path.name, "threads": threads, **medians}
    click.echo(f"{'':<28}" + "".join(f"{engine:>12}" for engine in engines))
    for what in medians["ours"]:
        row = "".join(f"{medians[engine].get(what, math.nan):>12.2f}" for engine in engines)
        click.echo(f"{what.replace('_', ' '):<28}{row}")
    if quality:
        record["quality"] = scored = measured_by(MODULE, [*asked, "--child", "quality"])
        for what, value in scored.items():
            click.echo(f"{what.replace('_', ' '):<28}{value:>12.4f}")
    record["mb_peak_complete"] = most = measure_door(model, threads)
    click.echo(f"{'mb peak, viable complete':<28}{most:>12.0f}")
    record["machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    click.echo(json.dumps(record))


def measure_ours(path: Path, dtype: str, threads: int, tokens: int) -> Figures:
    """One load, one prompt, `tokens` passes of one row and of three; medians of the passes."""
    import torch

    import model

    torch.set_num_threads(threads)
    begin = time.perf_counter()
    decoder = model.load(path, dtype=dtype)
    loaded = time.perf_counter() - begin
    ids = torch.tensor([_prompt(model.load_tokenizer(path).encode, PROMPT + 3 * tokens)])
    cache = decoder.new_cache(PROMPT + 3 * tokens)

    def run(start: int, count: int) -> None:
        decoder.head(decoder.hidden(ids[:, start : start + count], cache)[:, -count:]).argmax(-1).tolist()

    with torch.inference_mode():
        decoder.hidden(ids[:, :8], cache)
        cache.truncate(0)
        begin = time.perf_counter()
        decoder.head(decoder.hidden(ids[:, :PROMPT], cache)[:, -1:])
        prompt = time.perf_counter() - begin
        one = _passes(run, tokens, 1)
        cache.truncate(PROMPT)
        three = _passes(run, tokens, 3)
    return _figures(loaded, prompt, one, three)


def measure_llama(path: Path, threads: int, tokens: int) -> Figures:
    """The same passes through llama-cpp-python."""
    import model

    llama_cpp: Any = importlib.import_module("llama_cpp")  # not a dependency, and not typed

    begin = time.perf_counter()
    engine = llama_cpp.Llama(
        str(path), n_ctx=PROMPT + 3 * tokens, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    loaded = time.perf_counter() - begin
    ids = _prompt(model.load_tokenizer(path).encode, PROMPT + 3 * tokens)
    engine.eval(ids[:8])
    engine.reset()
    begin = time.perf_counter()
    engine.eval(ids[:PROMPT])
    prompt = time.perf_counter() - begin

    def run(start: int, count: int) -> None:
        engine.eval(ids[start : start + count])

    one = _passes(run, tokens, 1)
    engine.n_tokens = PROMPT
    three = _passes(run, tokens, 3)
    figures = _figures(loaded, prompt, one, three)
    engine.close()
    return figures


def measure_quality(path: Path, dtype: str, threads: int) -> Figures:
    """Bits per byte of real code, in float32 and as loaded, and how often the first choice is the same."""
    import torch

    import model

    torch.set_num_threads(threads)
    tokenizer = model.load_tokenizer(path)
    windows = windows_of(_files(), tokenizer.encode, WINDOWS)
    size = sum(len(tokenizer.pieces[i] or b"") for window in windows for i in window[1:])
    bits: dict[str, float] = {}
    first: dict[str, list[int]] = {}
    for name in ("float32", dtype):
        decoder = model.load(path, dtype=name)
        total, first[name] = 0.0, []
        for window in windows:
            loss, chosen = score(decoder, window)
            total += loss
            first[name] += chosen
        bits[name] = total / math.log(2) / size
        del decoder
    same = sum(a == b for a, b in zip(first["float32"], first[dtype], strict=True)) / len(first["float32"])
    return {
        "bits_per_byte_float32": bits["float32"],
        "bits_per_byte_as_loaded": bits[dtype],
        "bits_per_byte_cost_percent": 100 * (bits[dtype] / bits["float32"] - 1),
        "same_first_choice_percent": 100 * same,
        "positions": len(first["float32"]),
    }


def score(decoder: Decoder, window: list[int]) -> tuple[float, list[int]]:
    """Nats of all tokens but the first, and the model's own choice at each of their places."""
    import torch
    from torch.nn.functional import cross_entropy

    loss, chosen = 0.0, []
    with torch.inference_mode():
        hidden = decoder.hidden(torch.tensor([window]))[0, :-1]
        # The logits of a whole window would take 300 MB.
        for rows, following in zip(hidden.split(64), torch.tensor(window[1:]).split(64), strict=True):
            logits = decoder.head(rows).float()
            loss += float(cross_entropy(logits, following, reduction="sum"))
            chosen += logits.argmax(-1).tolist()
    return loss, chosen


def windows_of(files: list[Source], encode: Callable[[str], list[int]], count: int) -> list[list[int]]:
    """The first PROMPT tokens of `count` files that have as many."""
    found = (encode(file.text[: 16 * PROMPT])[:PROMPT] for file in files)
    return [ids for ids in found if len(ids) == PROMPT][:count]


def _files() -> list[Source]:
    """Half from the standard library, which the model has seen; half from what is installed."""
    mixed = [*standard_library(4 * WINDOWS), *site_packages(4 * WINDOWS)]
    random.Random(0).shuffle(mixed)
    return mixed


def _prompt(encode: Callable[[str], list[int]], count: int) -> list[int]:
    ids = encode("\n".join(file.text for file in standard_library(8)))
    return ids[:count]


def _passes(run: Callable[[int, int], None], count: int, rows: int) -> float:
    """Median seconds of `count` passes of `rows` tokens after the prompt."""
    times = []
    for number in range(count):
        begin = time.perf_counter()
        run(PROMPT + number * rows, rows)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _figures(loaded: float, prompt: float, one: float, three: float) -> Figures:
    return {
        "tokens_per_second": 1 / one,
        "ms_1_row": 1000 * one,
        "ms_3_rows": 1000 * three,
        "rows_3_over_1": three / one,
        "s_prompt_512": prompt,
        "s_load": loaded,
        "mb_peak": _peak_memory(),
    }


def measure_door(model: str, threads: int) -> float:
    """Megabytes that `viable complete` takes at most, with all that comes with the model."""
    if sys.platform == "win32":
        return math.nan
    with tempfile.TemporaryDirectory() as folder:
        gap = Path(folder, "gap.py")
        gap.write_text(GAP, encoding="utf-8")
        asked = ["complete", str(gap), "--model", model, "--offline", "--max-tokens", "32"]
        return peak_of([sys.executable, "-m", "assistant", *asked], {**os.environ, "OMP_NUM_THREADS": str(threads)})


def _peak_memory() -> float:
    """The most memory that this process has held, in megabytes."""
    if sys.platform == "win32":
        return math.nan
    import resource

    return megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    command()
