"""`viable bench validator`: how right the validator is, and what it costs."""

from __future__ import annotations

import json
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

from assistant.bench import (
    anchors,
    corpus,
    validator_costs,
    validator_exactness,
    validator_outputs,
    validator_parsers,
)
from assistant.bench.corpus import Output, Source
from assistant.bench.validator_exactness import Count
from assistant.errors import UsageProblem


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    files: int
    """Of the standard library, and as many of the installed packages."""
    bad_blocks: int
    """For each of the two corpora."""
    texts: int
    """On which the validator and the slow reference must agree, those of a model among them."""
    outputs: int
    """Texts that the small model writes, held by nothing."""
    cuts: int
    timed_files: int
    lengths: tuple[int, ...]
    """Characters of left text for the cost by length."""
    masked: tuple[int, int]
    """Files for which masks are made before the measurement, and in it."""


LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
QUICK = Sizes(12, 100, 1_000, 5, 100, 6, LENGTHS, (12, 4))
FULL = Sizes(500, 1_000, 100_000, 400, 1_000, 40, LENGTHS, (40, 20))


class Shard(NamedTuple):
    """The part `number` (from 0) of `of`."""

    number: int
    of: int

    def of_files(self, sources: Sequence[Source]) -> Sequence[Source]:
        return sources[self.number :: self.of]


WHOLE = Shard(0, 1)


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
    encode: Callable[[str], list[int]]
    """Text -> ids of `pieces`."""


def run(
    sizes: Sizes, seed: int = 0, only: Sequence[str] = (), outputs: Sequence[Output] = (), shard: Shard = WHOLE
) -> Iterator[Row]:
    """Measure one figure after the other. `only` are parts of `PARTS`; without them it is all.

    `outputs`: texts on which the validator has to agree with the reference, instead of those that the small model
    writes. `shard`: which of the files are used for the rejections, so that several processes can share them.
    """
    library = corpus.standard_library(sizes.files, seed)
    packages = corpus.site_packages(sizes.files, seed)
    tokens = model_tokens()
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "rejections": lambda: _rejections(shard.of_files(library), shard.of_files(packages)),
        "blocks": lambda: _bad_blocks({"standard library": library, "packages": packages}, sizes, seed, tokens),
        "detection": _detection,
        "agreement": lambda: _agreement([*library, *packages], sizes, seed, outputs),
        "middles": lambda: _middles([*library, *packages], sizes, seed),
        "closings": lambda: _closings([*library, *packages], sizes, seed),
        "costs": lambda: _costs([*library, *packages], sizes, seed, tokens),
        "masks": lambda: _masks([*library, *packages], sizes, tokens),
        "process": lambda: _process(library),
        "anchors": lambda: _anchors([*library, *packages], sizes, seed, tokens),
    }
    for name in only or PARTS:
        yield from parts[name]()


PARTS = (
    "rejections",
    "blocks",
    "detection",
    "agreement",
    "middles",
    "closings",
    "costs",
    "masks",
    "process",
    "anchors",
)


def model_tokens() -> Tokens:
    """The default model's tokens if it lies in the cache; otherwise pieces of about the same length."""
    from assistant import store
    from assistant.errors import ViableError
    from assistant.settings import DEFAULT_MODEL

    try:
        path = store.resolve(DEFAULT_MODEL, pull=False).path
    except ViableError:
        return Tokens("token-like pieces", corpus.pieces, (), (), lambda text: [])
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
    return Tokens(
        DEFAULT_MODEL,
        split,
        tuple(text for text in whole if "\ufffd" not in text),
        tuple(tokenizer.pieces),
        tokenizer.encode,
    )


def _rejections(library: Sequence[Source], packages: Sequence[Source]) -> Iterator[Row]:
    for writing in corpus.WRITINGS:
        sources = corpus.written([*library, *packages], writing)
        count = validator_exactness.wrong_rejections(sources)
        yield _counted(
            f"wrong rejections, {writing}, {len(sources)} files", count, 0, "0 of 368,618 tokens, as it is only"
        )


def _bad_blocks(corpora: dict[str, Sequence[Source]], sizes: Sizes, seed: int, tokens: Tokens) -> Iterator[Row]:
    for name, sources in corpora.items():
        small = [source for source in sources if len(source.text) < 20_000] or sources
        blocks = validator_exactness.bad_blocks(small, sizes.bad_blocks, seed, tokens.split, tokens.vocabulary)
        count = validator_exactness.bad_blocks_accepted(blocks)
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


def _agreement(sources: Sequence[Source], sizes: Sizes, seed: int, outputs: Sequence[Output]) -> Iterator[Row]:
    """As many texts in all as the sizes say."""
    texts = outputs or validator_outputs.written(sources, sizes.outputs, seed)
    written = validator_exactness.agreement_on(texts)
    if texts:
        what = "disagreements on the texts given" if outputs else "disagreements on what a model wrote"
        yield _counted(what, written.disagreements, 0, "")
    found = validator_exactness.agreement(sources, max(0, sizes.texts - len(texts)), seed)
    yield _counted("disagreements with the slow reference", found.disagreements, 0, "")
    unproven = written.unproven + found.unproven
    yield Row("refused earlier than the reference can prove", str(unproven), "", "", None, {"n": unproven})


def _middles(sources: Sequence[Source], sizes: Sizes, seed: int) -> Iterator[Row]:
    found = validator_exactness.middles(sources, sizes.cuts, seed)
    yield _counted("true middles refused or not complete", found.refused, 0, "0 of 80 (Melcer)")
    yield _counted("wrong middles called complete", found.completed, 0, "0 of 119 (Melcer)")
    yield _counted("spoilt middles that parse, not called complete", found.missed, 0, "2 of 121 (Melcer)")


def _closings(sources: Sequence[Source], sizes: Sizes, seed: int) -> Iterator[Row]:
    small = [source for source in sources if len(source.text) < 20_000] or sources
    found = validator_costs.closings(small, sizes.cuts, seed)
    number = found.spent.number
    for what, places in (
        ("texts that close a gap with which it does not parse", found.wrong),
        ("gaps that can be closed, nothing found", found.missed),
    ):
        yield _counted(what, Count(len(places), number, places[:5]), 0, "")
    ours = f"{found.spent.median:.0f} / {found.spent.p99:.0f}"
    yield Row("µs to close a gap: median / p99", ours, "", "", None, {**found.spent._asdict()})


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
    start = validator_costs.starts(_long(sources, seed), 10)
    ours = f"{start.median / 1000:.0f} / {start.most / 1000:.0f}"
    yield Row(
        "ms to start, 20 kB + 20 kB: median / most", ours, "50", "821 (Melcer)", start.median <= 50_000, start._asdict()
    )
    for what, found in (
        ("ns a character behind a left text of", validator_costs.by_length(sources, sizes.lengths)),
        ("ns a character of a start on", validator_costs.start_by_length(sources, sizes.lengths)),
    ):
        growth = (
            max(found.values()) / min(found.values())
            if "behind" in what
            else found[sizes.lengths[-1]] / min(found.values())
        )
        ours = ", ".join(f"{length // 1000} kB {value:.0f}" for length, value in found.items())
        figures: dict[str, object] = {str(length): round(value, 1) for length, value in found.items()}
        yield Row(what, ours, "flat", "", growth <= 2, {**figures, "growth": round(growth, 2)})


def _masks(sources: Sequence[Source], sizes: Sizes, tokens: Tokens) -> Iterator[Row]:
    anchor = "33 / 134 (glrmask)"
    if not tokens.pieces:
        yield Row("µs a mask, warm", "not run: the default model is not here", "100 / 1000", anchor, None, {})
        return
    found = validator_costs.masks(sources, tokens.encode, tokens.pieces, *sizes.masked)
    for name, times, goal in (
        ("warm, all places of new files", found.warm, True),
        ("of these, places met for the first time", found.first, False),
        ("of these, places met before", found.again, False),
        ("cold: the first file", found.cold, False),
    ):
        ours = f"{times.median:.0f} / {times.p99:.0f}"
        met = times.median <= 100 and times.p99 <= 1000 if goal else None
        figures = {**times._asdict(), "ids": len(tokens.pieces), "files_before": sizes.masked[0]}
        yield Row(f"µs a mask, {name}", ours, "100 / 1000" if goal else "", anchor if goal else "", met, figures)
    for name, forced, of in (
        ("tokens that are the only ones possible", found.forced_ids, found.tokens),
        ("characters that are the only ones possible", found.forced_characters, found.characters),
    ):
        yield Row(name, f"{100 * forced / max(of, 1):.2f} %", "", "", None, {"forced": forced, "of": of})


def _anchors(sources: Sequence[Source], sizes: Sizes, seed: int, tokens: Tokens) -> Iterator[Row]:
    """Ours beside other systems, run here and now."""
    yield from _llguidance(sources, tokens)
    short = [source._replace(text=source.text[:5_000]) for source in sources]
    small = [source for source in sources if len(source.text) < 10_000] or short
    bad = validator_exactness.bad_blocks(small, sizes.bad_blocks, seed, tokens.split, tokens.vocabulary)
    for parser in validator_parsers.installed():
        found = validator_parsers.against(parser, small[: sizes.timed_files], bad)
        here = f"({parser.name}, here)"
        yield _beside("µs a block of 3 pieces, first time", found.ours, found.theirs, parser.name)
        for what, wrong in (
            ("real blocks refused", found.refused),
            ("bad 3-token blocks accepted", found.accepted),
        ):
            theirs = f"{100 * wrong.theirs / max(1, wrong.of):.1f} % {here}"
            yield Row(what, f"{wrong.ours} of {wrong.of:,}", "0", theirs, wrong.ours == 0, wrong._asdict())


def _beside(what: str, ours: Sequence[int], theirs: Sequence[int], name: str, **figures: object) -> Row:
    """Times of ours and of another system's, at the same places."""
    we, they = validator_costs.times(ours), validator_costs.times(theirs)
    ratio = we.median / they.median
    beside = f"{they.median:.1f} / {they.p99:.0f} ({name}, here), {ratio:.2f} ×"
    figures = {"ours": we._asdict(), name: they._asdict(), "ratio": ratio, **figures}
    return Row(what, f"{we.median:.1f} / {we.p99:.0f}", "", beside, None, figures)


def _llguidance(sources: Sequence[Source], tokens: Tokens) -> Iterator[Row]:
    if anchors.available() is None or not tokens.pieces:
        why = "the default model is not here" if anchors.available() else "pip install llguidance"
        yield Row("beside llguidance", f"not run: {why}", "", "", None, {})
        return
    files = list(anchors.plain_sources(sources, 8))
    found = anchors.against_llguidance(files, tokens.pieces, tokens.encode)
    for name, ours, theirs in (
        ("µs a block of 3 tokens, first time", found.ours_first, found.blocks),
        ("µs a block of 3 tokens, again", found.ours_again, found.blocks),
        ("µs a mask, again", found.ours_masks, found.masks),
    ):
        yield _beside(name, ours, theirs, "llguidance", files_refused=found.refused)


def _process(library: Sequence[Source]) -> Iterator[Row]:
    fresh = validator_costs.fresh_process(library)
    yield Row(
        "s from import to the first answer (on the clock)",
        f"{fresh.seconds:.2f} ({fresh.passed:.2f})",
        "0.5",
        "0.4–1.1 (llguidance)",
        fresh.seconds <= 0.5,
        {"s": fresh.seconds, "clock": fresh.passed},
    )
    size = fresh.megabytes
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
    "--full/--quick", default=False, help="As much as the project's figures rest on, half an hour; or a minute."
)
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Measure this alone; may be repeated.")
@click.option("--seed", default=0, help="Seed of files, blocks, texts and gaps. [0]")
@click.option(
    "--texts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON lines with `prefix` and `text`: what a model wrote, for `--part agreement`.",
)
@click.option("--shard", default="1/1", metavar="K/N", help="Of the files for the rejections the Kth of N parts.")
@click.option("--examples", is_flag=True, help="Show up to five places where it is wrong, for each figure.")
def command(full: bool, parts: tuple[str, ...], seed: int, texts: Path | None, shard: str, examples: bool) -> None:
    """Measure the validator: exactness, cost, memory. Beside it stand the best figures measured of other systems."""
    sizes, begin = FULL if full else QUICK, time.monotonic()
    try:
        outputs = corpus.outputs(texts) if texts else []
        number, of = (int(word) for word in shard.split("/"))
    except ValueError as error:
        raise UsageProblem(str(error) if texts else f"--shard takes K/N, such as 2/4, not {shard!r}") from None
    if not 1 <= number <= of:
        raise UsageProblem(f"--shard takes K/N, such as 2/4, not {shard!r}")
    click.echo(f"{'':<54}{'ours':>22}{'goal':>12}  best anchor")
    rows = []
    for row in run(sizes, seed, parts, outputs, Shard(number - 1, of)):
        rows.append(row)
        mark = "" if row.met is None else "  ok" if row.met else "  no"
        click.echo(f"{row.what:<54}{row.ours:>22}{row.goal:>12}  {row.anchor}{mark}")
        for example in row.examples if examples else ():
            click.echo(f"    {example}")
    click.echo(
        "Anchors were measured once, on two cores at 8.7 µs a token for llguidance; those marked 'here' ran now."
    )
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    figures = [{"what": row.what, "met": row.met, **row.figures} for row in rows]
    head = {"bench": "validator", "machine": machine, "full": full, "seed": seed, "s": round(time.monotonic() - begin)}
    click.echo(json.dumps({**head, "figures": figures}))


if __name__ == "__main__":
    command()
