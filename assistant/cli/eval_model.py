"""`viable eval source`, `routing`, `rounding`, `context`, `claims`: what a model makes of source as it stands."""

from __future__ import annotations

import json
import sysconfig
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant.cli.train_parts import Command
from assistant.errors import ViableError

if TYPE_CHECKING:
    from model import Decoder, Tokenizer

_MODEL = click.option("--model", default="auto", metavar="NAME|PATH", help="Model [the default one].")
_FILES = click.option("--files", default=40, show_default=True, metavar="N", help="Held-out files.")
_SITE = click.option(
    "--site",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=sysconfig.get_path("purelib"),
    help="Where packages are installed. [this environment's]",
)
_DRAW = click.option("--draw", default=0, show_default=True, metavar="N", help="Seed of what is drawn.")
_DEVICE = click.option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu or cuda.")
_DTYPE = click.option("--dtype", default="auto", show_default=True, metavar="DTYPE", help="How weights are held.")


def _measured(command: Command) -> Command:
    """The options of what measures a model on held-out files, in this order."""
    for option in reversed((_MODEL, _FILES, _SITE, _DRAW, _DEVICE, _DTYPE)):
        command = option(command)
    return command


def _texts(site: Path, files: int, draw: int) -> list[str]:
    from assistant.eval.fim import required

    found = required(site, files, draw)
    return [file.text for file in found]


def _open(name: str, device: str, dtype: str) -> tuple[Path, Decoder, Tokenizer]:
    import model
    from assistant import store

    path = store.resolve(name).path
    try:
        return path, model.load(path, device, dtype), model.load_tokenizer(path)
    except model.ModelError as error:
        raise ViableError(str(error)) from error


@click.command()
@_measured
def source(model: str, files: int, site: Path, draw: int, device: str, dtype: str) -> None:
    """Bits per byte of files that no part of this project was trained on, and lines that the model would have written.

    A line counts where all its tokens are the model's best after the true text before it: greedy decoding gives it.
    """
    from assistant.eval import architecture
    from model.train import lines

    texts = _texts(site, files, draw)
    path, decoder, tokenizer = _open(model, device, dtype)
    found = lines.measure(architecture.score(decoder), tokenizer, texts)
    click.echo(
        f"{found.bits_per_byte:.4f} bits per byte, {found.exact} of {found.lines} lines ({found.exact_share:.1%})"
    )
    figures = {"source": asdict(found), "bits_per_byte": round(found.bits_per_byte, 4)}
    _line(figures | {"exact": round(found.exact_share, 4), "model": path.name, "device": device, "dtype": dtype})


@click.command()
@_measured
@click.option("--context", default=2048, show_default=True, metavar="TOKENS", help="Of a prompt and its answer.")
def gaps(model: str, files: int, site: Path, draw: int, device: str, dtype: str, context: int) -> None:
    """Gaps that the model alone would fill with just what was cut out, and then end: no validator, no cutting.

    One pass a gap tells it. `viable eval fim` measures what is served, and takes longer.
    """
    from assistant.eval import architecture, fim, small

    held = fim.required(site, files, draw)
    path, decoder, tokenizer = _open(model, device, dtype)
    found = small.gaps(architecture.score(decoder), tokenizer, held, draw, context)
    for shape, (hits, count) in found.items():
        click.echo(f"{shape:12} {hits:4} of {count} exact ({hits / count:.1%})")
    _line({"gaps": found, "model": path.name, "files": files})


@click.command()
@_measured
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: an SVG picture.")
def routing(
    model: str, files: int, site: Path, draw: int, device: str, dtype: str, plot: Path | None
) -> None:  # fmt: skip
    """How many experts a token needs: by router mass with a dense fallback, beside as trained and all experts."""
    from assistant.eval import architecture

    texts = _texts(site, files, draw)
    path, decoder, tokenizer = _open(model, device, dtype)
    found = architecture.routing(decoder, tokenizer, texts)
    if not found:
        raise ViableError(f"{path.name} has no experts")
    click.echo(f"{'strategy':22}{'experts':>9}{'share':>8}{'bits/byte':>11}{'lines':>8}")
    for one in found:
        click.echo(f"{one.strategy:22}{one.active:9.2f}{one.share:8.1%}{one.bits_per_byte:11.4f}{one.exact:8.1%}")
    if plot:
        plot.write_text(_drawn(found), encoding="utf-8")
    _line({"routing": [asdict(one) for one in found], "model": path.name, "files": files})


def _drawn(found: list[Any]) -> str:
    from model.train.plot import scatter

    points = {one.strategy: (100 * one.share, one.bits_per_byte) for one in found}
    return scatter(points, "experts active per token, %", "bits per byte, held-out files")


@click.command()
@_measured
@click.option("--tokens", default=256, show_default=True, metavar="N", help="Of each text.")
@click.option(
    "--problems",
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="HumanEval.jsonl.gz: prompts with their solutions instead of held-out files.",
)
def rounding(
    model: str, files: int, site: Path, draw: int, device: str, dtype: str, tokens: int, problems: Path | None
) -> None:  # fmt: skip
    """What weights in few bits change: next tokens beside those of the same model in fp32, text by text."""
    from assistant.eval import architecture
    from assistant.eval import rounding as rounded
    from assistant.eval.humaneval import read_problems, subset

    if problems is None:
        texts = _texts(site, files, draw)
    else:
        texts = [one.prompt + one.canonical_solution for one in subset(read_problems(problems), files)]
    path, decoder, tokenizer = _open(model, device, dtype)
    exact = _open(model, device, "float32")[1]
    found = rounded.apart(architecture.score(exact), architecture.score(decoder), tokenizer, texts, tokens)
    click.echo(
        f"{found.positions} positions: divergence {found.divergence:.4f} nats, {found.same:.1%} the same best token,"
        f" {found.bits_per_byte:.4f} bits per byte (fp32: {found.exact_bits_per_byte:.4f})"
    )
    _line({"rounding": asdict(found), "model": path.name, "dtype": dtype, "files": files, "tokens": tokens})


@click.command()
@_MODEL
@_FILES
@_SITE
@_DRAW
@_DEVICE
@click.option("--longest", default=32_768, show_default=True, metavar="TOKENS")
@click.option("--tries", default=20, show_default=True, metavar="N", help="Numbers to find, for each length.")
def context(model: str, files: int, site: Path, draw: int, device: str, longest: int, tries: int) -> None:
    """Loss by position in one long text, and numbers hidden in long texts: with grouped positions and without."""
    from assistant import store
    from assistant.eval import architecture

    texts = _texts(site, files, draw)
    path = store.resolve(model).path
    if not (path / "config.json").is_file():
        raise ViableError(f"{path.name} is no folder with a config.json; grouped positions are set there")
    found = architecture.positions(path, device, texts, longest, tries, draw, click.echo)
    _line({"context": [asdict(one) for one in found], "model": path.name, "files": files, "tries": tries})


def _line(figures: dict[str, Any]) -> None:
    click.echo(json.dumps(figures))


@click.command()
@click.option("--stored", "only", is_flag=True, help="Only what is stored: measure nothing now.")
def claims(only: bool) -> None:
    """What the article claims, what we have, and how that was measured.

    Figures that need a GPU or hours are stored with their machine and commit; the others are measured now.
    """
    from assistant.eval import claims as claimed
    from assistant.store.shipped import SMALL, shipped

    found = claimed.stored()
    if not only and SMALL in shipped():
        found += claimed.live(shipped()[SMALL])
    click.echo(claimed.table(found))
    click.echo(claimed.line(found))
