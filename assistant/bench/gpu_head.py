"""`python -m assistant.bench.gpu_head`: the product with a vocabulary alone, by bits and by tiles a program has."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kernels.weights import Head

VOCABULARY, DRAFTED, WIDTH = 151_936, 32_768, 896
"""Of the default model, and of what its modules draft."""
TIMES = 10
"""Launches of a recording: each begins while the one before it ends."""


@click.command()
@click.option("--rows", default="1,3,16", help="Rows of activations, with commas. [1,3,16]")
def command(rows: str) -> None:
    """Microseconds of `kernels.norm_scores` on random weights. Ends in one line of JSON."""
    import torch

    from kernels.weights import Eight
    from model.quantised import to_int8, to_q8

    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device is usable here")
    generator = torch.Generator("cuda").manual_seed(0)
    weight = torch.randn(VOCABULARY, WIDTH, device="cuda", generator=generator) * 0.02
    eight = Eight(*(part.cuda() for part in to_int8(weight)))
    weights: dict[str, Head] = {
        "sixteen bits": weight.bfloat16(),
        "Q8_0": to_q8(weight),
        "eight bits": eight,
        "eight bits, drafts": Eight(*(part[:DRAFTED].contiguous() for part in eight)),
    }
    module: Any = importlib.import_module("kernels.norm_scores_gluon")
    counts = [int(count) for count in rows.split(",")]
    gain = torch.randn(WIDTH, device="cuda", generator=generator).bfloat16()
    found: dict[str, list[float]] = {}
    used = dict(module.ROOMS)
    for name, head in weights.items():
        found[name] = timed(head, gain, counts)
        if name != "sixteen bits":
            module.ROOMS[8] = 1
            found[f"{name}, a tile a program"] = timed(head, gain, counts)
            module.ROOMS.update(used)
    for name, times in found.items():
        click.echo(f"{name:<36}" + "".join(f"{time:>9.1f}" for time in times))
    click.echo(json.dumps({"bench": "gpu_head", "gpu": torch.cuda.get_device_name(), "rows": counts, "us": found}))


def timed(head: Head, gain: Any, counts: list[int]) -> list[float]:
    """For each number of rows."""
    import torch

    import kernels

    def call(x: Any) -> Callable[[], object]:
        return lambda: kernels.norm_scores(x, gain, 1e-6, head)

    return [round(fastest(call(torch.randn(count, WIDTH, device="cuda"))), 1) for count in counts]


def fastest(call: Callable[[], object]) -> float:
    """Microseconds of a launch, the least of ten recordings of `TIMES` each."""
    import torch

    call()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(TIMES):
            call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    least = float("inf")
    for _ in range(10):
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        least = min(least, 1e3 * begin.elapsed_time(end) / TIMES)
    return least


if __name__ == "__main__":
    command()
