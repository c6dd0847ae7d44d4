"""`python -m assistant.bench.gpu_profile`: where a pass on a GPU spends its time, and whether its results are right.

Weights are random, of the default model's shape: no file is needed, and the speed does not depend on them. Each op is
timed over the weights of all layers, recorded as in a pass, so that no weight is found in a cache.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from assistant.bench.decode import BANDWIDTH, CAPACITY, PROMPT, random_decoder
from assistant.errors import ViableError

if TYPE_CHECKING:
    import torch

    from kernels.tiles import Tile
    from model.engine.graph_scorer import GraphScorer

Figures = dict[str, Any]
TRIED = {
    "norm_linear": ((4, 128, 2), (4, 256, 4), (8, 256, 8)),
    "linear_add": ((4, 256, 4), (8, 128, 4), (2, 128, 1)),
    "norm_swiglu": ((4, 128, 2), (16, 128, 8), (8, 256, 8), (4, 256, 4), (4, 512, 8), (8, 128, 4, 1, 128)),
    "linear_add_long": ((4, 512, 8), (2, 256, 2), (8, 256, 8), (2, 512, 4), (2, 1024, 8), (4, 256, 4, 1, 128)),
    "norm_linear_vocabulary": ((8, 128, 4), (4, 128, 2, 2), (8, 256, 8, 2), (4, 256, 4, 4), (8, 128, 4, 2, 128)),
}
"""Tiles to measure beside those in use: rows, lanes, warps, parts, registers."""
USED_BY = {
    "norm_linear": "qkv",
    "linear_add": "out",
    "norm_swiglu": "gate_up",
    "linear_add_long": "down",
    "norm_linear_vocabulary": "head",
}


@click.command()
@click.option("--rows", default="1,3", help="Rows of a pass, with commas. [1,3]")
@click.option("--tiles", is_flag=True, help="Also measure other tiles than those in use.")
def command(rows: str, tiles: bool) -> None:
    """Check a pass against the plain decoder, then time it and each of its ops. Ends in one line of JSON."""
    import torch

    from kernels import launching
    from model.engine.graph_scorer import GraphScorer

    if not torch.cuda.is_available():
        raise ViableError("no CUDA device is usable here")
    counts = [int(part) for part in rows.split(",")]
    decoder = random_decoder()
    scorer = GraphScorer(decoder, CAPACITY)
    scorer.warm()
    figures: Figures = {"bench": "gpu_profile", "gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    figures["kernels_overlap"] = launching.overlaps()
    with torch.inference_mode():
        figures |= check(decoder, scorer)
        figures["us_per_pass"] = whole_passes(scorer)
        figures["ops"] = {str(count): ops(scorer, count) for count in counts}
        for count in counts:
            show(figures["ops"][str(count)], count)
        if tiles:
            figures["tiles"] = other_tiles(scorer, counts)
    click.echo(json.dumps(figures))


def prompt(count: int) -> list[int]:
    """Ids of nothing in particular."""
    return [(7919 * place) % 100_000 for place in range(1, count + 1)]


def check(decoder: Any, scorer: GraphScorer) -> Figures:
    """The block's logits beside the plain decoder's, and rows computed together beside rows computed apart."""
    import torch

    from model.engine import Greedy
    from model.engine.graph_scorer import WIDTHS
    from model.engine.scorer import CachedScorer

    plain = CachedScorer(decoder, PROMPT + WIDTHS[-1])
    for each in (scorer, plain):
        each.truncate(0)
        each.extend(prompt(PROMPT), Greedy())
    errors = {}
    for count in (1, 3, 32):
        ours = last_logits(scorer, prompt(count))
        plain.extend(prompt(count), Greedy())
        theirs = decoder.head(plain.hidden[PROMPT + count - 1])
        plain.truncate(PROMPT)
        scorer.truncate(PROMPT)
        errors[str(count)] = float((ours - theirs.float()).norm() / theirs.float().norm())
    block = prompt(WIDTHS[-1])
    found = {}
    for width in (width for width in WIDTHS if WIDTHS[-1] % width == 0):
        scorer.truncate(PROMPT)
        for at in range(0, len(block), width):
            found[width] = last_logits(scorer, block[at : at + width])
    alike = all(torch.equal(found[1], logits) for logits in found.values())
    click.echo(f"error beside the plain decoder: {errors}; rows together equal rows apart: {alike}")
    return {"error_beside_plain": errors, "rows_independent": alike}


def last_logits(scorer: GraphScorer, ids: Sequence[int]) -> torch.Tensor:
    """What follows the last of `ids`: fp32 [V]."""
    from model.engine import Greedy

    scorer.extend(ids, Greedy())
    return scorer._block.logits(scorer.hidden[len(scorer.ids) - 1 : len(scorer.ids)])[0]


def whole_passes(scorer: GraphScorer) -> dict[str, float]:
    """Microseconds on the GPU for a recorded pass of each width, one after the other."""
    found = {}
    for width, recorded in sorted(scorer._blocks.items()):
        found[str(width)] = timed(partial(repeated, recorded, 10)) / 10
        click.echo(f"pass of {width:>2} rows {found[str(width)]:>8.1f} µs")
    return found


def ops(scorer: GraphScorer, rows: int, only: str = "") -> dict[str, tuple[float, float]]:
    """Op -> microseconds for one layer, and megabytes of weights and cache that it reads."""
    import torch

    import kernels
    from kernels.weights import stream

    block = scorer._block
    layers = block.layers
    some = layers[0]
    device = block.rotation.device
    x = torch.randn(rows, block.norm.gain.numel(), device=device)
    qkv = torch.randn(rows, stream(some.qkv.weight).shape[0], device=device)
    seen = torch.randn(rows, stream(some.out.weight).shape[1], device=device).bfloat16()
    inner = torch.randn(rows, stream(some.down.weight).shape[1], device=device).bfloat16()
    start = torch.tensor([PROMPT], dtype=torch.int32, device=device)
    parts = kernels.attend(qkv, block.rotation, some.keys, some.values, start, 128)
    logits = block.logits(x)
    calls: dict[str, tuple[Callable[[Any], Any], float]] = {
        "qkv": (lambda to: kernels.norm_linear(x, *to.attention_norm, *to.qkv), size(some.qkv)),
        "attend": (
            lambda to: kernels.attend(qkv, block.rotation, to.keys, to.values, start, 128),
            2 * PROMPT * some.keys.shape[0] * some.keys.shape[2] * some.keys.element_size() / 1e6,
        ),
        "merge": (lambda to: kernels.merge(*parts, start, 128, torch.bfloat16), 0.0),
        "out": (lambda to: kernels.linear_add(x, seen, *to.out), size(some.out)),
        "gate_up": (lambda to: kernels.norm_swiglu(x, *to.feed_forward_norm, *to.gate_up), size(some.gate_up)),
        "down": (lambda to: kernels.linear_add(x, inner, *to.down), size(some.down)),
        "head": (lambda to: block.logits(x), size(block.projection)),
        "top": (lambda to: kernels.top_ids(logits, 8), 0.0),
    }
    found = {}
    for name, (call, megabytes) in calls.items():
        if only in ("", name):
            some_layers = layers[:3] if name in ("head", "top") else layers
            us = recorded_time(partial(each_of, call, some_layers)) / len(some_layers)
            found[name] = (us, megabytes)
    return found


def size(product: Any) -> float:
    """Megabytes of a weight."""
    from kernels.weights import stream

    of = stream(product.weight)
    parts = [of.numbers] if of.bits >= 16 else [of.numbers, of.factors]
    return sum(part.numel() * part.element_size() for part in parts) / 1e6


def show(found: dict[str, tuple[float, float]], rows: int) -> None:
    """A table: microseconds, and the share of the memory's bandwidth."""
    click.echo(f"{'op':<10}{rows:>3} row(s)   µs    MB   share of bandwidth")
    for name, (us, megabytes) in found.items():
        share = megabytes * 1e6 / BANDWIDTH / (us * 1e-6)
        click.echo(f"{name:<12}{us:>14.2f}{megabytes:>8.2f}{100 * share:>8.0f} %")


def other_tiles(scorer: GraphScorer, counts: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Op -> tile -> microseconds for each number of rows."""
    from kernels import tiles

    found: dict[str, dict[str, list[float]]] = {}
    for op, used_by in USED_BY.items():
        found[op] = {}
        for tile in (tiles.tile(op, 16), *(_tile(*numbers) for numbers in TRIED[op])):
            with tiles.trying(op, 16, tile):
                times = [round(ops(scorer, count, used_by)[used_by][0], 2) for count in counts]
            found[op][str(tuple(tile))] = times
            click.echo(f"{op:<24}{tuple(tile)!s:<28}{times}")
    return found


def _tile(rows: int, lanes: int, warps: int, parts: int = 1, registers: int | None = None) -> Tile:
    from kernels.tiles import Tile

    return Tile(rows, lanes, warps, parts, registers)


def repeated(call: Callable[[], object], count: int) -> None:
    """`call`, again and again."""
    for _ in range(count):
        call()


def each_of(call: Callable[[Any], object], arguments: Sequence[Any]) -> None:
    """`call` on each of `arguments`."""
    for argument in arguments:
        call(argument)


def recorded_time(call: Callable[[], object]) -> float:
    """Microseconds of `call`, recorded as a graph."""
    import torch

    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return timed(graph.replay)


def timed(call: Callable[[], object]) -> float:
    """Median microseconds on the GPU of twenty calls."""
    import torch

    times: list[float] = []
    for _ in range(20):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(1000 * float(begin.elapsed_time(end)))
    return statistics.median(times)


if __name__ == "__main__":
    command()
