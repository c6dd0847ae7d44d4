"""`python -m assistant.bench.gpu_profile`: where a pass on a GPU spends its time, and whether its results are right.

Weights are random, of the default model's shape: no file is needed, and the speed does not depend on them. Or those of
a model that comes with the project (`--model viable-small`), which then writes as well. Each op is timed over the
weights of all layers, recorded as in a pass, so that no weight of the default model is found in a cache; those of a
small model all fit the second-level one.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant.bench.decode import CAPACITY, PROMPT, TOKENS
from assistant.bench.decode import size as bytes_of
from assistant.bench.random_weights import random_decoder, random_modules

if TYPE_CHECKING:
    import torch

    from model.engine.graph_scorer import GraphScorer

Figures = dict[str, Any]
TRIED = {
    "linear_add": ((8, 2), (8, 8), (16, 4)),
    "norm_swiglu": ((8, 4), (8, 8), (16, 8), (32, 8)),
    "linear_add_long": ((8, 4), (16, 8)),
    "norm_scores": ((16, 4), (32, 8)),
}
"""Tiles to measure beside those in use: rows and warps."""
USED_BY = {
    "linear_add": "out",
    "norm_swiglu": "gate_up",
    "linear_add_long": "down",
    "norm_scores": "head",
}


@click.command()
@click.option("--rows", default="1,3", help="Rows of a pass, with commas. [1,3]")
@click.option("--dtype", default="bfloat16", type=click.Choice(["bfloat16", "int4"]), help="Weights. [bfloat16]")
@click.option("--model", "name", default="", help="A model that comes with the project. [random weights]")
@click.option("--tiles", is_flag=True, help="Also measure other tiles than those in use.")
def command(rows: str, dtype: str, name: str, tiles: bool) -> None:
    """Check a pass against the plain decoder, then time it and each of its ops. Ends in one line of JSON."""
    import torch

    import model
    from kernels import launching
    from model.companions import FOLDER
    from model.engine.graph_scorer import GraphScorer

    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device is usable here")
    counts = [int(part) for part in rows.split(",")]
    decoder = model.load(FOLDER / name, device="cuda", dtype=dtype) if name else random_decoder(dtype)
    scorer = GraphScorer(decoder, CAPACITY)
    scorer.warm()
    figures: Figures = {"bench": "gpu_profile", "gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    figures |= {"model": name, "dtype": dtype, "kernels_overlap": launching.overlaps()}
    if not name:
        figures["us_drafting_block"] = drafting_blocks(decoder)
    with torch.inference_mode():
        figures["bandwidth"] = rate = bandwidth()
        figures |= check(decoder, scorer)
        figures["us_per_pass"] = whole_passes(scorer)
        figures["ops"] = {str(count): ops(scorer, count) for count in counts}
        for count in counts:
            show(figures["ops"][str(count)], count, rate)
        if tiles:
            figures["tiles"] = other_tiles(scorer, counts)
    if name:
        click.echo(json.dumps(figures))  # whatever becomes of the rest
        figures |= written(decoder, scorer, FOLDER / name)
    click.echo(json.dumps(figures))


def prompt(count: int) -> list[int]:
    """Ids of nothing in particular, which any model has."""
    return [(7919 * place) % 30_000 for place in range(1, count + 1)]


def bandwidth() -> float:
    """Bytes per second that a copy of 1 GiB reads and writes here."""
    import torch

    source = torch.ones(1 << 28, device="cuda")
    target = torch.empty_like(source)
    us = timed(lambda: target.copy_(source))
    return 2 * source.numel() * source.element_size() / (us * 1e-6)


def written(decoder: Any, scorer: GraphScorer, path: Path) -> Figures:
    """Tokens per second behind a real prompt, single and drafted with the block, without a validator."""
    import model
    from assistant.bench.corpus import standard_library
    from model.companions import mtp_drafter
    from model.engine import Fixed, Greedy, NoDraft, decode
    from model.engine.graph_drafts import GraphDraft
    from validators import AcceptAll

    scorer.truncate(0)
    drafter = mtp_drafter(decoder, path, None, scorer, CAPACITY, 2)
    text = "\n".join(file.text for file in standard_library(8))
    ids = model.load_tokenizer(path).encode(text)[:PROMPT]
    texts, rates, kept = [], {}, {}
    for name, by, width in (("single", NoDraft(), 0), ("drafted", drafter, 2)):
        seconds = []
        for _ in range(4):  # the first records
            scorer.truncate(0)
            begin, steps = 0.0, []
            for step in decode(
                ids, scorer=scorer, validator=AcceptAll(), state=None, drafter=by, order=Greedy(), end_ids=(),
                max_tokens=TOKENS, window=Fixed(width),
            ):  # fmt: skip
                begin = begin or time.perf_counter()  # behind the first pass
                steps.append(step.ids)
            count = sum(len(each) for each in steps[1:])
            seconds.append((time.perf_counter() - begin) / count)
        texts.append([token for each in steps for token in each])
        rates[name] = 1 / statistics.median(seconds[1:])
        kept[name] = count / (len([each for each in steps if each]) - 1)
    drafts = isinstance(drafter, GraphDraft)
    click.echo(f"tokens/s {rates}, tokens a pass {kept}; drafts with the block: {drafts}; same: {texts[0] == texts[1]}")
    return {
        "tokens_per_second": rates,
        "tokens_per_pass": kept,
        "drafts_with_the_block": drafts,
        "drafted_equals_single": texts[0] == texts[1],
    }


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


def drafting_blocks(decoder: Any) -> dict[str, float]:
    """Microseconds on the GPU for a recorded block that drafts the next one, by the tokens that it drafts."""
    from model.engine.graph_scorer import GraphScorer

    rows, found = random_modules(decoder, CAPACITY), {}
    for longest in (2, 3, 5):
        scorer = GraphScorer(decoder, CAPACITY)
        scorer.drafter(rows, longest)
        found[str(longest)] = scorer.block_time()
        click.echo(f"block that drafts {longest} {found[str(longest)]:>8.1f} µs")
    return found


def ops(scorer: GraphScorer, rows: int, only: str = "") -> dict[str, tuple[float, float]]:
    """Op -> microseconds for one layer, and megabytes of weights and cache that it reads."""
    import torch

    from assistant.bench.gpu_ops import Op, of_pass

    block = scorer._block
    start = torch.tensor([PROMPT], dtype=torch.int32, device=block.rotation.device)
    found = {}
    for name, op in of_pass(block, rows, start).items():
        if only in ("", name):
            assert isinstance(op, Op)
            us = recorded_time(partial(each_of, op.call, op.layers)) / len(op.layers)
            found[name] = (us, op.megabytes)
    return found


def size(product: Any) -> float:
    """Megabytes of a product's weight."""
    return bytes_of(product.weight) / 1e6


def show(found: dict[str, tuple[float, float]], rows: int, rate: float) -> None:
    """A table: microseconds, and the share of the memory's bandwidth, bytes per second."""
    click.echo(f"{'op':<10}{rows:>3} row(s)   µs    MB   share of bandwidth")
    for name, (us, megabytes) in found.items():
        share = megabytes * 1e6 / rate / (us * 1e-6)
        click.echo(f"{name:<16}{us:>14.2f}{megabytes:>8.2f}{100 * share:>8.0f} %")


def other_tiles(scorer: GraphScorer, counts: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Op -> tile -> microseconds for each number of rows."""
    from kernels import tiles
    from kernels.weights import stream

    attention, feed_forward = scorer._block.layers[0]
    found: dict[str, dict[str, list[float]]] = {}
    measured = ops(scorer, counts[0])
    for op, used_by in USED_BY.items():
        if used_by not in measured:
            continue
        half = attention if hasattr(attention, used_by) else feed_forward
        product = scorer._block.projection if used_by == "head" else getattr(half, used_by)
        bits = min(stream(product.weight).bits, 16)
        used = tiles.matrix_tile(op, bits)
        found[op] = {}
        for tile in (used, *(used._replace(rows=rows, warps=warps) for rows, warps in TRIED[op])):
            with tiles.trying(op, bits, tile):
                times = [round(ops(scorer, count, used_by)[used_by][0], 2) for count in counts]
            found[op][f"{tile.rows} rows, {tile.warps} warps"] = times
            click.echo(f"{op:<24}{tile.rows:>4} rows {tile.warps:>3} warps  {times}")
    return found


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
