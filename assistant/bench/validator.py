"""`viable bench validator`: how right the validator is, and what it costs."""

from __future__ import annotations

import json
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import click

from assistant.bench import corpus, validator_costs, validator_exactness
from assistant.bench.corpus import Source
from assistant.bench.validator_exactness import Count


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    files: int
    """Of the standard library, and as many of the installed packages."""
    bad_blocks: int
    """For each of the two corpora."""
    texts: int
    """On which the validator and the slow reference must agree."""
    cuts: int
    timed_files: int
    lengths: tuple[int, ...]
    """Characters of left text for the cost by length."""


QUICK = Sizes(12, 100, 1_000, 100, 6, (1_000, 10_000, 100_000))
FULL = Sizes(500, 1_000, 100_000, 1_000, 40, (1_000, 10_000, 100_000, 1_000_000))


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: str
    goal: str
    anchor: str
    """The best of what was measured elsewhere, on the machine named in the project's notes."""
    met: bool | None
    """None where there is no goal, or nothing was measured."""
    figures: dict[str, object]
    examples: tuple[str, ...] = ()


class Tokens(NamedTuple):
    """How text is cut into tokens here."""

    name: str
    split: Callable[[str], list[str]]
    vocabulary: tuple[str, ...]
    """Those that are whole characters; empty: whatever occurs in the files."""
    pieces: tuple[bytes | None, ...]


def run(sizes: Sizes, seed: int = 0, only: Sequence[str] = ()) -> Iterator[Row]:
    """Measure one figure after the other. `only` are parts of `PARTS`; without them it is all."""
    library = corpus.standard_library(sizes.files, seed)
    packages = corpus.site_packages(sizes.files, seed)
    tokens = model_tokens()
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "rejections": lambda: _rejections(library, packages),
        "blocks": lambda: _bad_blocks({"standard library": library, "packages": packages}, sizes, seed, tokens),
        "detection": _detection,
        "agreement": lambda: _agreement([*library, *packages], sizes, seed),
        "middles": lambda: _middles([*library, *packages], sizes, seed),
        "costs": lambda: _costs([*library, *packages], sizes, seed, tokens),
        "process": lambda: _process(library),
    }
    for name in only or PARTS:
        yield from parts[name]()


PARTS = ("rejections", "blocks", "detection", "agreement", "middles", "costs", "process")


def model_tokens() -> Tokens:
    """The default model's tokens if it lies in the cache; otherwise pieces of about the same length."""
    from assistant import store
    from assistant.errors import ViableError
    from assistant.settings import DEFAULT_MODEL

    try:
        path = store.resolve(DEFAULT_MODEL, pull=False).path
    except ViableError:
        return Tokens("token-like pieces", corpus.pieces, (), ())
    from model.loaders.vocabulary import load_tokenizer

    tokenizer = load_tokenizer(path)

    def split(text: str) -> list[str]:
        found, pending = [], b""
        for token in tokenizer.encode(text):
            pending += tokenizer.pieces[token] or b""
            try:
                found.append(pending.decode())
            except UnicodeDecodeError:
                continue
            pending = b""
        return found

    whole = (piece.decode(errors="replace") for piece in tokenizer.pieces if piece)
    return Tokens(DEFAULT_MODEL, split, tuple(text for text in whole if "\ufffd" not in text), tuple(tokenizer.pieces))


def _rejections(library: Sequence[Source], packages: Sequence[Source]) -> Iterator[Row]:
    for writing in corpus.WRITINGS:
        sources = corpus.written([*library, *packages], writing)
        count = validator_exactness.wrong_rejections(sources)
        yield _counted(
            f"wrong rejections, {writing}, {len(sources)} files", count, 0, "0 of 368,618 tokens, as it is only"
        )


def _bad_blocks(corpora: dict[str, Sequence[Source]], sizes: Sizes, seed: int, tokens: Tokens) -> Iterator[Row]:
    for name, sources in corpora.items():
        small = [source for source in sources if len(source.text) < 20_000]
        count = validator_exactness.bad_blocks_accepted(small, sizes.bad_blocks, seed, tokens.split, tokens.vocabulary)
        yield _counted(
            f"bad 3-token blocks accepted, {name}", count, count.of // 1000, "0.6 % (Melcer), 1.5 % (llguidance)"
        )


def _detection() -> Iterator[Row]:
    count = validator_exactness.late_detections()
    if count.of:
        yield _counted(
            "bad snippets not refused at first dead character", count, 0, "18 of 110 not refused at all (Melcer)"
        )
    else:
        yield Row("bad snippets", "not run: they are in the source tree", "0", "", None, {})


def _agreement(sources: Sequence[Source], sizes: Sizes, seed: int) -> Iterator[Row]:
    found = validator_exactness.agreement(sources, sizes.texts, seed)
    yield _counted("disagreements with the slow reference", found.disagreements, 0, "")
    yield Row("refused earlier than the reference can prove", str(found.unproven), "", "", None, {"n": found.unproven})


def _middles(sources: Sequence[Source], sizes: Sizes, seed: int) -> Iterator[Row]:
    found = validator_exactness.middles(sources, sizes.cuts, seed)
    yield _counted("true middles refused or not complete", found.refused, 0, "0 of 80 (Melcer)")
    yield _counted("wrong middles called complete", found.completed, 0, "0 of 119 (Melcer)")
    yield _counted("spoilt middles that parse, not called complete", found.missed, 0, "2 of 121 (Melcer)")


def _costs(sources: Sequence[Source], sizes: Sizes, seed: int, tokens: Tokens) -> Iterator[Row]:
    blocks = validator_costs.blocks(sources, sizes.timed_files, tokens.split)
    llguidance = "21 / 81 (llguidance, compiled)"
    for name, times, goal in (
        ("warm", blocks.warm, True),
        ("cold", blocks.cold, False),
        ("bad, warm", blocks.bad, False),
    ):
        what = f"µs a block of 3 tokens, {name}: median / p99"
        met = times.median <= 20 and times.p99 <= 200 if goal else None
        ours = f"{times.median:.1f} / {times.p99:.0f}"
        yield Row(what, ours, "20 / 200" if goal else "", llguidance, met, {**times._asdict(), "tokens": tokens.name})
    mask = validator_costs.masks(sources, tokens.pieces, 40) if tokens.pieces else None
    if mask is None:
        why = "no masks yet" if tokens.pieces else "not run: the default model is not here"
        yield Row("µs a mask over the vocabulary, warm", why, "100 / 1000", "33 / 134 (glrmask)", None, {})
    else:
        ours, met = f"{mask.median:.0f} / {mask.p99:.0f}", mask.median <= 100 and mask.p99 <= 1000
        yield Row("µs a mask over the vocabulary, warm", ours, "100 / 1000", "33 / 134 (glrmask)", met, mask._asdict())
    start = validator_costs.starts(_long(sources, seed), 10)
    ours = f"{start.median / 1000:.0f} / {start.most / 1000:.0f}"
    yield Row(
        "ms to start, 20 kB + 20 kB: median / most", ours, "50", "821 (Melcer)", start.median <= 50_000, start._asdict()
    )
    for what, found in (
        ("ns a character behind a left text of", validator_costs.by_length(sources, sizes.lengths)),
        ("ns a character of a start on", validator_costs.start_by_length(sources, sizes.lengths)),
    ):
        growth = found[sizes.lengths[-1]] / found[sizes.lengths[0]]
        ours = ", ".join(f"{length // 1000} kB {value:.0f}" for length, value in found.items())
        figures: dict[str, object] = {str(length): round(value, 1) for length, value in found.items()}
        yield Row(what, ours, "flat", "", growth <= 2, {**figures, "growth": round(growth, 2)})


def _process(library: Sequence[Source]) -> Iterator[Row]:
    fresh = validator_costs.fresh_process(library)
    seconds, size = fresh
    yield Row(
        "s from import to the first answer",
        f"{seconds:.2f}",
        "0.5",
        "0.4–1.1 (llguidance)",
        seconds <= 0.5,
        {"s": seconds},
    )
    yield Row("MB that this adds to a process", f"{size:.0f}", "60", "23 (llguidance)", size <= 60, {"MB": size})


def _counted(what: str, count: Count, most: int, anchor: str) -> Row:
    figures: dict[str, object] = {"wrong": count.wrong, "of": count.of}
    return Row(what, f"{count.wrong} of {count.of:,}", str(most), anchor, count.wrong <= most, figures, count.examples)


def _long(sources: Sequence[Source], seed: int) -> list[Source]:
    """Files of 40 kB: real ones, or else several joined."""
    long = [source for source in sources if len(source.text) >= 40_000]
    shuffled = random.Random(seed).sample(list(sources), len(sources))
    return long or [Source("joined", "\n".join(source.text for source in shuffled))]


@click.command()
@click.option(
    "--full/--quick", default=False, help="As much as the project's figures rest on, about an hour; or a minute."
)
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Measure this alone; may be repeated.")
@click.option("--seed", default=0, help="Seed of files, blocks, texts and gaps. [0]")
@click.option("--examples", is_flag=True, help="Show up to five places where it is wrong, for each figure.")
def command(full: bool, parts: tuple[str, ...], seed: int, examples: bool) -> None:
    """Measure the validator: exactness, cost, memory. Beside it stand the best figures measured of other systems."""
    sizes, begin = FULL if full else QUICK, time.monotonic()
    click.echo(f"{'':<54}{'ours':>22}{'goal':>12}  best anchor")
    rows = []
    for row in run(sizes, seed, parts):
        rows.append(row)
        mark = "" if row.met is None else "  ok" if row.met else "  no"
        click.echo(f"{row.what:<54}{row.ours:>22}{row.goal:>12}  {row.anchor}{mark}")
        for example in row.examples if examples else ():
            click.echo(f"    {example}")
    click.echo(
        "The anchors were measured once, on two cores at 8.7 µs a token for llguidance; none of them is run here."
    )
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    figures = [{"what": row.what, "met": row.met, **row.figures} for row in rows]
    head = {"bench": "validator", "machine": machine, "full": full, "seed": seed, "s": round(time.monotonic() - begin)}
    click.echo(json.dumps({**head, "figures": figures}))


if __name__ == "__main__":
    command()
