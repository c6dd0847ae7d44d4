"""`viable train`: make the gap-filling adapter and the MTP modules of a model, from installed Python source."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from assistant.cli import train_beside, train_further, train_small
from assistant.cli import train_parts as parts
from assistant.errors import ViableError


@click.group()
def command() -> None:
    """Train what ships beside the default model, the small model, and measure it.

    \b
    viable train streams --out streams                     source as endless text
    viable train small --data streams --out small --minutes 8 --compile    the small model, from nothing
    viable train further --out further --seconds 480 --compile             ... on, measured before and after
    viable train data --out corpus                         choose, encode and cut source
    viable train fim --data corpus --out fim --seconds 500 --compile       the gap-filling adapter
    viable train mtp --data corpus --adapter fim/fim-adapter.safetensors --out mtp --seconds 500 --compile
    viable train held-out --site DIR --out held-out.jsonl  files to measure with
    viable train measure --files held-out.jsonl --adapter ... --mtp ...

    A run that is stopped goes on at its checkpoint when it is started again.
    """


for _command in (
    train_small.vocabulary,
    train_small.streams,
    train_small.small,
    train_further.further,
    train_beside.fim,
    train_beside.mtp,
):
    command.add_command(_command)


@command.command("data")
@parts.MODEL
@parts.OUT
@parts.SEED
@click.option("--site", multiple=True, metavar="DIR", help="Where packages are [what this Python sees].")
@click.option("--workers", default=os.cpu_count() or 1, metavar="N", help="Processes.")
@click.option("--gaps", default=2.0, metavar="N", help="Gaps per document.")
def data(model: str, out: Path, seed: int, site: tuple[str, ...], workers: int, gaps: float) -> None:
    """Choose the source that is trained on, encode it, cut gaps, write a manifest.

    Only packages whose metadata state a permissive licence; never those that are held out for measuring.
    """
    from model import ModelError, load_tokenizer
    from model.train.corpus import Recipe, write
    from model.train.manifest import installed

    tokenizer = load_tokenizer(parts.path_of(model))
    begin = time.perf_counter()
    recipe = Recipe(parts.build, parts.end_id(tokenizer), gaps, seed)
    try:
        manifest, _ = write(out, installed(list(site) or None), tokenizer, recipe, workers)
    except ModelError as error:
        raise ViableError(str(error)) from error
    for entry in manifest.packages:
        click.echo(f"{entry.package} {entry.version}  {entry.licence}  {entry.files} files  {entry.bytes:,} bytes")
    for refused in manifest.refused:
        click.echo(f"refused: {refused}")
    click.echo(
        f"{manifest.files} files, {manifest.bytes:,} bytes, {manifest.tokens:,} tokens; left out: {manifest.dropped}; "
        f"{time.perf_counter() - begin:.0f} s"
    )


@command.command("held-out")
@click.option("--site", type=click.Path(path_type=Path, exists=True), required=True, metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option("--count", default=600, metavar="N")
@parts.SEED
def held_out(site: Path, out: Path, count: int, seed: int) -> None:
    """Draw the files that are measured with, from the held-out packages installed in a folder (pip --target)."""
    from assistant.eval import fim as measured

    files = measured.collect(site, count, seed)
    measured.write_files(out, files)
    packages: dict[str, int] = {}
    for file in files:
        packages[file.package] = packages.get(file.package, 0) + 1
    click.echo(f"{len(files)} files: {packages}")


@command.command("measure")
@parts.MODEL
@parts.DEVICE
@parts.SEED
@click.option("--files", type=click.Path(path_type=Path, exists=True), required=True, metavar="FILE")
@click.option("--adapter", type=click.Path(path_type=Path, exists=True), metavar="FILE")
@click.option("--mtp", "drafts", type=click.Path(path_type=Path, exists=True), metavar="FILE")
@click.option("--count", default=600, metavar="N", help="Files.")
@click.option("--max-tokens", default=256, metavar="N", help="Of an answer.")
@click.option("--rows", default=128, metavar="N", help="Answered at once.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Figures as JSON.")
def measure(
    model: str, device: str, seed: int, files: Path, adapter: Path | None, drafts: Path | None, count: int,
    max_tokens: int, rows: int, out: Path | None,
) -> None:  # fmt: skip
    """Measure gap-filling with and without the adapter, or what the MTP modules' drafts are worth."""
    from assistant.eval import trained

    asked = trained.Asked(parts.path_of(model), *parts.place(device), files, count, seed, max_tokens, rows)
    if drafts is None:
        figures = trained.gaps(asked, adapter, click.echo)
    else:
        figures = trained.drafts(asked, adapter, drafts, click.echo)
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n")
