"""`viable train streams` and `viable train small`: a small model from nothing, and on from where it is."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assistant.errors import UsageProblem, ViableError

if TYPE_CHECKING:
    from model.small.network import Network

TOKENIZER_FILES = ("tokenizer.json", "base-ids.npy")
SMOOTHED = {
    "loss": ["loss_0", "loss_1", "loss_2"],
    "held out, bits per byte": ["bits_per_byte", "bits_per_byte_int4"],
    "held out, tokens per pass": ["tokens_per_pass", "tokens_per_pass_int4"],
    "busiest expert, times its share": ["busiest"],
}

_TOKENIZER = click.option(
    "--vocabulary", type=click.Path(path_type=Path, exists=True), metavar="DIR", help="Tokenizer [viable-small's]."
)


def _tokenizer(folder: Path | None) -> tuple[Any, Path]:
    from model import load_tokenizer
    from model.companions import FOLDER

    folder = folder or FOLDER / "viable-small"
    return load_tokenizer(folder), folder


@click.command("vocabulary")
@click.option("--base", type=click.Path(path_type=Path, exists=True), required=True, metavar="GGUF", help="The whole.")
@click.option("--frequent", type=click.Path(path_type=Path, exists=True), required=True, metavar="FILE")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--size", default=32768, metavar="N", show_default=True)
def vocabulary(base: Path, frequent: Path, out: Path, size: int) -> None:
    """Take the most frequent tokens of a model's vocabulary: OUT/tokenizer.json.

    FILE says which those are: frequent.npy of `viable train data`, or the drafting modules' own list (mtp.safetensors).
    """
    import numpy as np
    from safetensors import safe_open

    from model.loaders.gguf import GGUF
    from model.small import vocabulary as vocabularies

    if frequent.suffix == ".npy":
        ids = np.load(frequent).tolist()
    else:
        with safe_open(frequent, framework="np") as file:
            ids = file.get_tensor("ids").tolist()
    found = vocabularies.subset(GGUF(base).metadata, ids, size)
    vocabularies.write(found, out)
    click.echo(f"{found.size} tokens, {len(found.merges)} merges: {out}")


@click.command("streams")
@_TOKENIZER
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where it goes.")
@click.option("--seed", default=0, metavar="N", help="Decides everything that is drawn.")
@click.option("--site", multiple=True, metavar="DIR", help="Where packages are [what this Python sees].")
@click.option("--workers", default=os.cpu_count() or 1, metavar="N", help="Processes.")
@click.option("--gap-order", type=click.Choice(["prefix-first", "suffix-first"]), metavar="ORDER",
              help="What is read first around a gap: prefix-first or suffix-first [the vocabulary's].")  # fmt: skip
def streams(
    vocabulary: Path | None, out: Path, seed: int, site: tuple[str, ...], workers: int, gap_order: str | None
) -> None:  # fmt: skip
    """Encode source as endless text, as it stands and with gaps, for `viable train small`.

    Only packages whose metadata state a permissive licence; never those that are held out for measuring.
    """
    from assistant import prompt
    from model import ModelError
    from model.train.corpus import Recipe
    from model.train.manifest import installed
    from model.train.streams import write

    tokenizer, _ = _tokenizer(vocabulary)
    if gap_order:
        tokenizer.suffix_first = gap_order == "suffix-first"
    begin = time.perf_counter()
    recipe = Recipe(lambda *parts: prompt.build(*parts).ids, min(tokenizer.end_ids), seed=seed)
    try:
        manifest = write(out, installed(list(site) or None), tokenizer, recipe, workers)
    except ModelError as error:
        raise ViableError(str(error)) from error
    click.echo(
        f"{len(manifest.packages)} packages, {manifest.files} files, {manifest.bytes:,} bytes, "
        f"{manifest.tokens:,} tokens; left out: {manifest.dropped}; {time.perf_counter() - begin:.0f} s"
    )


@click.command("small")
@_TOKENIZER
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where it goes.")
@click.option("--from", "begin", type=click.Path(path_type=Path, exists=True), metavar="DIR",
              help="Go on from the model in DIR, such as an earlier OUT/model.")  # fmt: skip
@click.option("--shape", default="full", metavar="NAME", help="full, baseline (dense, for comparison) or tiny.")
@click.option("--steps", default=0, metavar="N", help="How long, in steps.")
@click.option("--minutes", default=0.0, metavar="M", help="How long, in minutes, if not in steps.")
@click.option("--rate", default=3e-3, metavar="LR", help="Highest learning rate.")
@click.option("--cooldown", default=0.35, metavar="SHARE", show_default=True,
              help="Share of the steps while the rate falls: 0 if other runs follow.")  # fmt: skip
@click.option("--rows", default=16, metavar="N", help="Windows of a batch.")
@click.option("--time", "length", default=4096, metavar="TOKENS", help="Tokens of a window.")
@click.option("--gap-share", default=0.5, metavar="SHARE", show_default=True, help="Of the windows, those with gaps.")
@click.option("--middle-weight", default=1.0, metavar="N", show_default=True,
              help="What a token in a gap, or of a hidden number, counts.")  # fmt: skip
@click.option("--passkey-share", default=0.0, metavar="SHARE", show_default=True,
              help="Of the windows, those with numbers to be found again, instead of plain ones.")  # fmt: skip
@click.option("--beta", default=0.0, metavar="B", help="Weight of the error compensation between depths.")
@click.option("--every", default=20, metavar="N", help="Steps between lines of the log.")
@click.option("--measured", default=250, metavar="N", help="Steps between measurements.")
@click.option("--save-seconds", default=120.0, metavar="S", help="Seconds between checkpoints.")
@click.option("--seed", default=0, metavar="N", help="Decides everything that is drawn.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu or cuda.")
@click.option("--compile/--no-compile", "compiled", default=False, help="Let PyTorch compile the blocks.")
@click.option("--whole/--no-whole", default=False, help="Write OUT/whole as well: the weights in bf16.")
def small(
    vocabulary: Path | None, data: Path, out: Path, begin: Path | None, shape: str, steps: int, minutes: float,
    rate: float, cooldown: float, rows: int, length: int, gap_share: float, middle_weight: float,
    passkey_share: float, beta: float,
    every: int, measured: int, save_seconds: float, seed: int, device: str, compiled: bool, whole: bool,
) -> None:  # fmt: skip
    """Train a small model from nothing: OUT/model, a folder in four bits, OUT/log.jsonl, OUT/curves.svg.

    \b
    A run that is stopped goes on at OUT/checkpoint.pt when it is started again. Longer trainings are several runs:
      viable train small --data D --out a --minutes 8 --cooldown 0
      viable train small --data D --out b --minutes 8 --from a/model --seed 1
    """
    from dataclasses import replace

    from model import ModelError
    from model.train.loop import Plan, run
    from model.train.plot import curves
    from model.train.small import SmallPlan, SmallTask, optimiser
    from model.train.streams import open_streams

    if (steps > 0) == (minutes > 0):
        raise UsageProblem("say how long: either --steps or --minutes")
    place = place_for(device)
    tokenizer, folder = _tokenizer(vocabulary)
    network = _network(begin, shape, tokenizer.vocab_size, seed).to(place)
    everything, used = network.parameters_used()
    click.echo(f"{everything:,} parameters, {used:,} for a token and its head, on {place}")
    if gap_share < 0 or passkey_share < 0 or gap_share + passkey_share > 1:
        raise UsageProblem(f"--gap-share {gap_share} and --passkey-share {passkey_share}: shares of one whole")
    plan = SmallPlan(
        rows=rows, time=length, gap_share=gap_share, middle_weight=middle_weight, passkey_share=passkey_share,
        beta=beta, seed=seed,
    )  # fmt: skip
    shown = open_streams(data)
    network.shape = replace(network.shape, gap_order=shown.gap_order)
    task = SmallTask(network, shown, plan, tokenizer)
    if compiled:
        task.compile()
    schedule = Plan(
        steps=steps, minutes=minutes, rate=rate, shape="stable", cooldown=cooldown, floor=0.0, decay=0.1, every=every,
        measured=measured, save_seconds=save_seconds,
    )  # fmt: skip
    try:
        last = run(task, schedule, out, optimiser=optimiser)
    except ModelError as error:
        raise ViableError(str(error)) from error
    about = {key: str(value) for key, value in (asdict(plan) | {"rate": rate, "cooldown": cooldown}).items()}
    about |= {"steps": str(last["step"]), "tokens": str(last["tokens"]), "data": _digest(data)}
    _save(network, out / "model", about, folder, True)
    if whole:
        _save(network, out / "whole", about, folder, False)
    (out / "curves.svg").write_text(curves(out / "log.jsonl", SMOOTHED))
    click.echo(f"{out / 'model'}: {last}")


def _network(begin: Path | None, shape: str, vocabulary: int, seed: int) -> Network:
    from dataclasses import replace

    from model.small import stored
    from model.small.network import Network
    from model.small.shape import SHAPES

    if begin:
        return stored.load(begin)
    if shape not in SHAPES:
        raise UsageProblem(f"no shape is called '{shape}' (known: {', '.join(SHAPES)})")
    return Network(replace(SHAPES[shape], vocabulary=vocabulary), seed)


def _save(network: Network, folder: Path, about: dict[str, str], vocabulary: Path, four_bits: bool) -> None:
    from model.small import stored

    stored.save(network, folder, about, four_bits)
    for name in TOKENIZER_FILES:
        if (vocabulary / name).exists():
            shutil.copyfile(vocabulary / name, folder / name)


def place_for(device: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _digest(data: Path) -> str:
    import json

    return str(json.loads((data / "manifest.json").read_text(encoding="utf-8"))["sha256"])
