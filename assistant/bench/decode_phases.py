"""`python -m assistant.bench.decode_phases`: what the kernel behind attention waits for, by the GPU's own clock.

Weights are random, of the default model's shape. Times are microseconds since the last program of a layer's `finish`
went on behind attention, over the programs of all layers but the first four, which begin with nothing under way.
"""

from __future__ import annotations

import importlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from assistant.bench.decode import CAPACITY, PROMPT
from assistant.bench.random_weights import random_decoder

if TYPE_CHECKING:
    import torch

    from model.gpu import BlockPass

MOMENTS = ("begins", "goes on", "out written", "all of it there", "gate, up written", "all of it there", "down written")
FIRST = 4


@click.command()
@click.option("--rows", default="1,3", help="Rows of a pass, with commas. [1,3]")
@click.option("--dtype", default="bfloat16", type=click.Choice(["bfloat16", "int4"]), help="Weights. [bfloat16]")
def command(rows: str, dtype: str) -> None:
    """Least, mean and most of each moment; ends in one line of JSON."""
    import torch

    from model.engine.graph_scorer import GraphScorer

    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device is usable here")
    block = GraphScorer(random_decoder(dtype), CAPACITY)._block
    figures: dict[str, Any] = {"bench": "decode_phases", "dtype": dtype, "gpu": torch.cuda.get_device_name()}
    with torch.inference_mode():
        for count in (int(part) for part in rows.split(",")):
            figures[f"{count} rows"] = {"us_by_phase": of_pass(block, count)}
    click.echo(json.dumps(figures))


def of_pass(block: BlockPass, rows: int) -> dict[str, list[float]]:
    """Moment -> least, mean and most."""
    import torch

    finish_gluon = importlib.import_module("kernels.finish_gluon")
    programs = importlib.import_module("kernels.grid_gluon").multiprocessors()
    x = torch.randn(rows, block.norm.gain.numel(), device=block.rotation.device)
    start = torch.tensor([PROMPT], dtype=torch.int32, device=x.device)
    times = torch.zeros(len(block.layers), programs, 8, dtype=torch.int64, device=x.device)
    compute = partial(block._through, x, start)
    compute()
    with finish_gluon.timed(list(times)):
        compute()  # compiles
    graph = torch.cuda.CUDAGraph()
    with finish_gluon.timed(list(times)), torch.cuda.graph(graph):
        compute()
    for _ in range(5):
        graph.replay()
    torch.cuda.synchronize()
    return shown(times.double().cpu() / 1000, rows)


def shown(times: torch.Tensor, rows: int) -> dict[str, list[float]]:
    """times: µs [L, programs, 8]."""
    since = times[:, :, : len(MOMENTS)] - times[:, :, 1].amax(1)[:, None, None]
    found = {}
    for place, moment in enumerate(MOMENTS):
        each = since[FIRST:, :, place]
        found[f"{place} {moment}"] = [round(float(part.mean()), 2) for part in (each.amin(1), each, each.amax(1))]
        click.echo(f"{rows} row(s) {moment:<18}" + "".join(f"{part:>8.2f}" for part in found[f"{place} {moment}"]))
    period = float((times[FIRST + 1 :, :, 1].amax(1) - times[FIRST:-1, :, 1].amax(1)).mean())
    click.echo(f"{rows} row(s) {'the next layer':<18}{period:>16.2f}")
    return found | {"the next layer": [round(period, 2)]}


if __name__ == "__main__":
    command()
