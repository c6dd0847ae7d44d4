"""`python -m assistant.bench.decode_phases`: all layers in one launch on a GPU: is it right, and what does it wait for?

Weights are random, of the default model's shape: no file is needed, and the speed does not depend on them. A minute.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from assistant.bench.decode import BANDWIDTH, CAPACITY, PROMPT, random_decoder
from assistant.bench.gpu_profile import recorded_time, size

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.stack import Stack
    from model.gpu import BlockPass

NAMES = ("queries, keys, values", "attention", "output projection", "gate, up", "down")
Figures = dict[str, Any]


@click.command()
@click.option("--rows", default="1,3", help="Rows of a pass, with commas, at most 8. [1,3]")
@click.option("--dtype", default="bfloat16", type=click.Choice(["bfloat16", "int4"]), help="Weights. [bfloat16]")
def command(rows: str, dtype: str) -> None:
    """One launch beside its phases and beside kernel by kernel, then its time by phase. Ends in a line of JSON."""
    import torch

    from kernels import launching
    from model.engine.graph_scorer import GraphScorer
    from model.gpu.block import OneLaunch

    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device is usable here")
    os.environ[launching.ONE_LAUNCH] = "1"
    block = GraphScorer(random_decoder(dtype), CAPACITY)._block
    if not isinstance(block._through, OneLaunch):
        raise click.ClickException("these layers cannot be computed in one launch here; the log says why")
    figures: Figures = {"bench": "decode_phases", "dtype": dtype, "gpu": torch.cuda.get_device_name()}
    figures["torch"] = torch.__version__
    start = torch.tensor([PROMPT], dtype=torch.int32, device="cuda")
    with torch.inference_mode():
        for count in (int(part) for part in rows.split(",")):
            x = torch.randn(count, block.norm.gain.numel(), device="cuda")
            figures[f"{count}_rows"] = check(block, x, start) | whole(block, x, start) | phases(block, x, start)
    click.echo(json.dumps(figures))


def check(block: BlockPass, x: Tensor, start: Tensor) -> Figures:
    """The same bits as phase by phase, thirty times; how far from kernel by kernel, which rounds elsewhere."""
    import torch

    from kernels import backend
    from model.gpu.block import KernelByKernel

    launch = backend.implementation("layers", "cuda")
    given = x, together(block), block.rotation, start
    expected = launch.by_phases(*given)
    same = all(torch.equal(launch.layers(*given), expected) for _ in range(30))
    other = KernelByKernel(block.layers, block.rotation)(x, start)
    error = float((expected - other).norm() / other.norm())
    click.echo(f"{len(x)} row(s): one launch equals its phases: {same}; beside kernel by kernel: {error:.1e}")
    return {"equals_phases": same, "error_beside_kernels": error}


def together(block: BlockPass) -> Stack:
    """The layers as one launch takes them."""
    from model.gpu.block import OneLaunch

    assert isinstance(block._through, OneLaunch)
    return block._through._stack


def whole(block: BlockPass, x: Tensor, start: Tensor) -> Figures:
    """Microseconds of all layers, recorded: in one launch, and kernel by kernel."""
    from model.gpu.block import KernelByKernel

    ways = {"one_launch": block._through, "kernel_by_kernel": KernelByKernel(block.layers, block.rotation)}
    found = {f"us_{name}": recorded_time(partial(way, x, start)) for name, way in ways.items()}
    for what, us in found.items():
        click.echo(f"{what:<24}{us:>9.1f}")
    return found


def phases(block: BlockPass, x: Tensor, start: Tensor) -> Figures:
    """Of each phase, the median over layers: microseconds waited for, worked, and from its beginning to the next one's.

    Clocks are a multiprocessor's own: what is printed is the mean over programs, and the most that one worked.
    """
    import torch

    from kernels import backend

    timed = backend.implementation("layers", "cuda").timed
    stack = together(block)
    for _ in range(3):
        times = timed(x, stack, block.rotation, start).double()  # [L, phases, programs, 3]
    begin = times[..., 1].flatten(0, 1)  # [L · phases, programs]
    # The clock's rate, by how long the same launch takes.
    us_per_tick = recorded_time(partial(timed, x, stack, block.rotation, start)) / float(
        (times[-1, -1, :, 2] - times[0, 0, :, 0]).mean()
    )
    until_next = torch.cat([begin[1:] - begin[:-1], begin.new_full(begin[:1].shape, torch.nan)])
    parts = {
        "until_next": until_next.mean(1),
        "waited": (times[..., 1] - times[..., 0]).flatten(0, 1).mean(1),
        "worked": (times[..., 2] - times[..., 1]).flatten(0, 1).mean(1),
        "worked_most": (times[..., 2] - times[..., 1]).flatten(0, 1).amax(1),
    }
    found: Figures = {}
    limits = limits_of(block)
    click.echo(f"{'µs':<24}{'to the next':>12}{'waits':>8}{'works':>8}{'most':>8}{'limit':>8}{'share':>8}")
    for number, name in enumerate(NAMES):
        us = {
            what: us_per_tick * float(ticks.view(-1, len(NAMES))[:, number].nanmedian())
            for what, ticks in parts.items()
        }
        share = limits[number] / us["until_next"]
        found[name] = {what: round(value, 3) for what, value in us.items()} | {"limit": round(limits[number], 3)}
        cells = "".join(f"{us[what]:>8.2f}" for what in ("waited", "worked", "worked_most"))
        click.echo(f"{name:<24}{us['until_next']:>12.2f}{cells}{limits[number]:>8.2f}{100 * share:>6.0f} %")
    return {"phases": found}


def limits_of(block: BlockPass) -> Sequence[float]:
    """Microseconds that the memory needs at least for what each phase reads."""
    from model.gpu.halves import Dense, Grouped

    attention, feed_forward = block.layers[0]
    assert isinstance(attention, Grouped) and isinstance(feed_forward, Dense)
    keys = attention.keys
    cache = 2 * PROMPT * keys.shape[0] * keys.shape[2] * keys.element_size() / 1e6
    sizes = [size(each) for each in (attention.qkv, attention.out, feed_forward.gate_up, feed_forward.down)]
    megabytes = (sizes[0], cache, *sizes[1:])
    return [each * 1e12 / BANDWIDTH for each in megabytes]


if __name__ == "__main__":
    command()
