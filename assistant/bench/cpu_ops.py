"""`viable bench cpu_ops`: the products of a pass on a processor, by every backend, beside what its memory gives.

Weights are random, in the shapes of the default model; there are as many of each as do not fit a cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.backend import Packed
    from kernels.layer import Layer, Text

SHAPES = {"qkv": (1152, 896), "out": (896, 896), "gate_up": (9728, 896), "down": (896, 4864), "head": (151_936, 896)}
"""Features out and in."""
HEADS, GROUPS, WIDTH = 14, 2, 64
RANK = 16
"""Of the adapter."""
SEEN = 512
"""Positions in the cache."""
ROWS = (1, 3, 8, 32, 512)
ELSEWHERE = ("stream", "reference")
"""Backends for GPUs, and to compare with."""
APART = 256 << 20
"""Bytes of weights between two uses of the same."""


@click.command()
@click.option("--threads", type=int, help="Threads. [as many as torch takes]")
@click.option("--rounds", default=5, help="The quickest of so many counts. [5]")
def command(threads: int | None, rounds: int) -> None:
    """Microseconds, gigabytes of weights and billions of products per second, op by op. Ends in one line of JSON.

    Few rows take as long as reading the weight, many as long as multiplying.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    memory = memory_speed(rounds)
    click.echo(f"{'memory, read alone':<28}{memory:>10.1f} GB/s on {torch.get_num_threads()} threads\n")
    click.echo(f"{'':<28}{'rows':>6}{'µs':>10}{'GB/s':>8}{'of memory':>11}{'products':>10}")
    found = []
    for name, rows, seconds, size in (*products(rounds), *layers(rounds)):
        speed = size / seconds / 1e9
        click.echo(
            f"{name:<28}{rows:>6}{seconds * 1e6:>10.0f}{speed:>8.1f}{speed / memory:>11.0%}{rows * speed:>10.0f}"
        )
        found.append({"op": name, "rows": rows, "us": seconds * 1e6, "gb_per_second": speed})
    click.echo(json.dumps({"bench": "cpu_ops", "threads": torch.get_num_threads(), "memory": memory, "ops": found}))


def memory_speed(rounds: int) -> float:
    """GB/s of a sum over more than any cache holds."""
    import torch

    numbers = torch.ones(2 * APART // 4)
    return numbers.nbytes / _quickest(torch.sum, [numbers], rounds) / 1e9


def products(rounds: int) -> Iterator[tuple[str, int, float, int]]:
    """Name, rows, seconds and bytes of the weight, for every backend of `int8_linear` and every shape."""
    import torch

    import kernels
    from kernels import backend

    for name, (features, columns) in SHAPES.items():
        codes = torch.randint(-127, 128, (features, columns), dtype=torch.int8)
        for backend_name in backend.backends("int8_linear", "cpu"):
            if backend_name in ELSEWHERE:
                continue
            with backend.use(backend_name):
                weights = [kernels.pack_int8(codes, torch.ones(features)) for _ in range(_copies(codes.nbytes))]
            for rows in ROWS if name != "head" else ROWS[:-1]:  # of a prompt it takes the last row
                x = torch.randn(rows, columns)
                spent = _quickest(partial(kernels.int8_linear, x), weights[: _turns(rows)], rounds)
                yield f"{name}, {backend_name}", rows, spent, codes.nbytes


def layers(rounds: int) -> Iterator[tuple[str, int, float, int]]:
    """The same for whole layers, in one call: the default model's with the adapter and without, and viable-small's."""
    import torch

    import kernels
    from kernels.layer import Text

    for name, make, kept, turns in (("layer", _layer, (GROUPS, WIDTH, 2), 2), ("small layer", _small, (1, 192, 1), 6)):
        probe = make()
        if problem := kernels.layer_problem(probe):
            click.echo(f"{name + ' in one call':<28}{problem}")
            continue
        made = [kernels.pack_layer(make()) for _ in range(_copies(probe.read))]
        groups, width, count = kept
        rows_kept = tuple(torch.randn(groups, SEEN + max(ROWS), width).bfloat16() for _ in range(count))
        for adapted in (False, True)[: 1 + (name == "layer")]:
            for rows in (rows for rows in ROWS if rows <= 32):
                x = torch.randn(rows, probe.attention.into.weight.shape[1])
                rotation = [torch.ones(rows, WIDTH if turns == 2 else 32)] * turns
                call = partial(_through, x, rotation, Text(SEEN, rows, rows_kept), adapted)
                yield f"{name}{', adapted' * adapted}", rows, _quickest(call, made, rounds), probe.read


def _through(x: Tensor, rotation: Sequence[Tensor], text: Text, adapted: bool, layer: Packed) -> Tensor:
    import kernels

    return kernels.layer(x, [layer], rotation, [[text]], adapted)[0]


def _layer() -> Layer:
    import torch

    from kernels.layer import Dense, GroupedQuery, Layer, Product

    made = {
        name: Product(_packed(features, columns), None, (_packed(RANK, columns), _packed(features, RANK)))
        for name, (features, columns) in SHAPES.items()
        if name != "head"
    }
    gain = torch.ones(SHAPES["qkv"][1])
    attention = GroupedQuery(made["qkv"], made["out"], GROUPS, WIDTH)
    return Layer(gain, gain, 1e-6, attention, Dense(made["gate_up"], made["down"]))


def _small() -> Layer:
    """A layer of `viable-small`, with latents and experts."""
    import torch

    from kernels.experts import Routing
    from kernels.layer import Experts, Latent, Layer, Product

    def experts(count: int) -> tuple[tuple[Packed, ...], tuple[Packed, ...]]:
        return tuple(_packed(192, 512) for _ in range(count)), tuple(_packed(512, 96) for _ in range(count))

    gain, routing = torch.ones(512), Routing(16, 4, 4, 2, True, False, False, 4.0, 0.0, False)
    into, out = (Product(_packed(*shape), None, None) for shape in ((800, 512), (512, 640)))
    up = torch.randn(960, 128).bfloat16()
    attention = Latent(into, torch.ones(128), 1e-6, up, out, 10, 32, 1 / 8, None, SEEN)
    (first,), (last,) = experts(1)
    fed = Experts(torch.randn(16, 512), torch.zeros(16), routing, *experts(16), (first, last))
    return Layer(gain, gain, 1e-6, attention, fed)


def _packed(features: int, columns: int) -> Packed:
    import torch

    import kernels

    codes = torch.randint(-127, 128, (features, columns), dtype=torch.int8)
    return kernels.pack_int8(codes, torch.full((features,), 1e-4))


def _copies(size: int) -> int:
    return max(1, APART // size)


def _turns(rows: int) -> int:
    """How many weights are enough where the product takes long."""
    return 4 if rows > 32 else 1 << 30


def _quickest(call: Callable[[Any], object], arguments: Sequence[Any], rounds: int) -> float:
    """Seconds of a call, with one argument after the other; the smallest of `rounds` means."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for argument in arguments:
            call(argument)
        times.append((time.perf_counter() - begin) / len(arguments))
    return min(times)
