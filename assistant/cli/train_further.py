"""`viable train further`: one run that trains the small model on, and says what it was worth."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import click

from assistant.cli import train_small
from assistant.errors import UsageProblem


@click.command("further")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where all of it goes.")
@click.option("--from", "begin", type=click.Path(path_type=Path, exists=True), metavar="DIR",
              help="The model to go on from [viable-small].")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR",
              help="What `viable train streams` made [OUT/streams, made if it is not there].")  # fmt: skip
@click.option("--seconds", default=480.0, show_default=True, metavar="S", help="Of training alone.")
@click.option("--steps", default=0, metavar="N", help="Of training, instead of seconds.")
@click.option("--rate", default=2e-3, show_default=True, metavar="LR", help="Highest learning rate.")
@click.option("--cooldown", default=0.6, show_default=True, metavar="SHARE", help="Of the steps while the rate falls.")
@click.option("--gap-share", default=0.6, show_default=True, metavar="SHARE", help="Of the windows, those with gaps.")
@click.option("--gap-order", type=click.Choice(["prefix-first", "suffix-first"]), default="suffix-first",
              show_default=True, metavar="ORDER",
              help="Of the data that is made: what is read first around a gap.")  # fmt: skip
@click.option("--middle-weight", default=4.0, show_default=True, metavar="N", help="What a token in a gap counts.")
@click.option("--passkey-share", default=0.15, show_default=True, metavar="SHARE",
              help="Of the windows, those with numbers to be found again.")  # fmt: skip
@click.option("--rows", default=16, show_default=True, metavar="N", help="Windows of a batch.")
@click.option("--time", "length", default=4096, show_default=True, metavar="TOKENS", help="Tokens of a window.")
@click.option("--site", type=click.Path(exists=True, file_okay=False, path_type=Path),
              default=sysconfig.get_path("purelib"), help="Where packages are. [this environment's]")  # fmt: skip
@click.option("--files", default=100, show_default=True, metavar="N", help="Held-out files to measure with.")
@click.option("--longest", default=32_768, show_default=True, metavar="TOKENS",
              help="Of texts with hidden numbers, after the training; 0: none.")  # fmt: skip
@click.option("--tries", default=5, show_default=True, metavar="N", help="Numbers to find, for each length.")
@click.option("--seed", default=1, show_default=True, metavar="N", help="Decides everything that is drawn.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu or cuda.")
@click.option("--compile/--no-compile", "compiled", default=False, help="Let PyTorch compile the blocks.")
@click.pass_context
def further(
    context: click.Context, out: Path, begin: Path | None, data: Path | None, seconds: float, steps: int, rate: float,
    cooldown: float, gap_share: float, gap_order: str, middle_weight: float, passkey_share: float, rows: int,
    length: int, site: Path, files: int, longest: int, tries: int, seed: int, device: str, compiled: bool,
) -> None:  # fmt: skip
    """Train the small model on: OUT/model, OUT/before.json, OUT/after.json, and a table of both.

    \b
    viable train further --out further --seconds 480 --compile

    Measures, trains, writes the model in four bits, measures that. Figures are kept as soon as they are there: a run
    that is stopped goes on, when it is started again, with what was not measured yet and from its last checkpoint.
    """
    import json
    from dataclasses import replace

    from assistant.eval import fim, small
    from model.companions import FOLDER
    from model.train.streams import open_streams

    if steps <= 0 and seconds <= 0:
        raise UsageProblem("say how long: --seconds or --steps")
    out.mkdir(parents=True, exist_ok=True)
    begin, data = begin or FOLDER / "viable-small", data or out / "streams"
    place = train_small.place_for(device)
    held_out = fim.required(site, files, 0)
    if not (data / "manifest.json").exists():
        context.invoke(train_small.streams, vocabulary=begin, out=data, site=(str(site),), gap_order=gap_order)
    asked = small.Asked(held_out, open_streams(data), rows, length, tries=tries)
    click.echo(f"before: {begin}")
    before = small.measure(begin, place, asked, small.Record(out / "before.json", said=click.echo))
    context.invoke(
        train_small.small, vocabulary=begin, data=data, out=out, begin=begin, steps=steps,
        minutes=0.0 if steps else seconds / 60, rate=rate, cooldown=cooldown, rows=rows, length=length,
        gap_share=gap_share, middle_weight=middle_weight, passkey_share=passkey_share, seed=seed, device=device,
        compiled=compiled, save_seconds=60.0,
    )  # fmt: skip
    click.echo(f"after: {out / 'model'}")
    record = small.Record(out / "after.json", said=click.echo)
    after = small.measure(out / "model", place, replace(asked, longest=longest), record)
    click.echo(small.table(before, after))
    click.echo(json.dumps({"before": before, "after": after}))
