"""`viable finetune`: the small model, trained on a user's own code base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assistant.errors import UsageProblem, ViableError

if TYPE_CHECKING:
    from model import Tokenizer
    from model.small.network import Network
    from model.train.lines import Found
    from model.train.select import Document


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="OUT", help="Where the model goes.")
@click.option("--from", "begin", type=click.Path(path_type=Path, exists=True), metavar="MODEL",
              help="A small model's folder [viable-small].")  # fmt: skip
@click.option("--steps", default=200, show_default=True, metavar="N", help="Of both stages together.")
@click.option("--rows", default=4, show_default=True, metavar="N", help="Windows of a batch.")
@click.option("--time", "length", default=1024, show_default=True, metavar="TOKENS", help="Tokens of a window.")
@click.option("--rates", default=(3e-5, 1e-5), show_default=True, type=(float, float), metavar="LR LR",
              help="Of the attention, and then of what knows positions.")  # fmt: skip
@click.option("--whole-rate", default=0.0, show_default=True, metavar="LR",
              help="Of all but the drafting modules, in the first half of the steps; 0: two stages alone.")  # fmt: skip
@click.option("--keep-back", default=0.15, show_default=True, metavar="SHARE", help="Files that only measure.")
@click.option("--seed", default=0, metavar="N", help="Decides everything that is drawn.")
@click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu or cuda.")
def command(
    folder: Path, out: Path, begin: Path | None, steps: int, rows: int, length: int, rates: tuple[float, float],
    whole_rate: float, keep_back: float, seed: int, device: str,
) -> None:  # fmt: skip
    """Train the small model on the Python files under DIR, in two stages, and say what it was worth.

    \b
    viable finetune ~/project --out ~/project-model
    viable complete app.py --at 12:5 --model ~/project-model/model

    Stage 1 trains the attention, stage 2 what knows positions; --whole-rate puts one for all of it before them. Some
    files are kept back; on them, lines that the model would have written itself are counted before and after. A run
    that is stopped goes on where it was a quarter of a minute before when it is started again.
    """
    from dataclasses import replace

    from assistant import prompt
    from assistant.cli.train_small import TOKENIZER_FILES, place_for
    from model import ModelError, load_tokenizer
    from model.companions import FOLDER
    from model.small import stored
    from model.train import tune
    from model.train.corpus import Recipe
    from model.train.small import SmallPlan

    begin = begin or FOLDER / "viable-small"
    if not (begin / stored.WEIGHTS).exists():
        raise UsageProblem(f"{begin} holds no small model to begin with")
    files = tune.collect(folder, keep_back)
    if not files.trained or not files.kept_back:
        raise UsageProblem(
            f"{folder} has {len(files.trained)} Python files to train on and {len(files.kept_back)} to measure with; "
            "one of each at least is needed"
        )
    tokenizer = load_tokenizer(begin)
    network = stored.load(begin).to(place_for(device))
    click.echo(f"{len(files.trained)} files to train on, {len(files.kept_back)} kept back")
    before = _measured(network, tokenizer, files.kept_back)
    click.echo(_said("before", before))
    recipe = Recipe(lambda *parts: prompt.build(*parts).ids, min(tokenizer.end_ids), seed=seed)
    data = tune.streams(files, tokenizer, recipe, length + network.shape.depth + 1)
    plan = SmallPlan(rows=rows, time=length, round_from=0.0, balance=0.0, draft_share=0.0, seed=seed)
    stages = [replace(stage, rate=rate) for stage, rate in zip(tune.STAGES, rates, strict=True)]
    if whole_rate > 0:
        stages = tune.behind(tune.Stage("everything", whole_rate, 0.5), stages)
    click.echo(
        f"{steps} steps of {rows} × {length} tokens, in {len(stages)} stages; they can be stopped with Ctrl-C", err=True
    )
    try:
        tune.tune(network, data, tokenizer, plan, steps, out, stages=stages)
    except ModelError as error:
        raise ViableError(str(error)) from error
    about = {
        "tuned on": folder.resolve().name,
        "steps": str(steps),
        "rates": str((whole_rate, *rates)),
        "seed": str(seed),
    }
    stored.save(network, out / "model", about)
    for name in TOKENIZER_FILES:
        if (begin / name).exists():
            shutil.copyfile(begin / name, out / "model" / name)
    after = _measured(stored.load(out / "model").to(place_for(device)), tokenizer, files.kept_back)
    click.echo(_said("after", after))
    figures = {name: {"exact": found.exact_share, "lines": found.lines, "bits_per_byte": found.bits_per_byte}
               for name, found in (("before", before), ("after", after))}  # fmt: skip
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{out / 'model'}: use it with --model {out / 'model'}")


def _measured(network: Network, tokenizer: Tokenizer, documents: tuple[Document, ...]) -> Found:
    import torch

    from model.train import lines

    def score(ids: torch.Tensor) -> torch.Tensor:
        dtype = torch.bfloat16 if network.device.type == "cuda" else torch.float32
        states, _ = network.states(ids.to(network.device), ids.shape[1], 0, dtype)
        return network.logits(states[0][0])

    return lines.measure(score, tokenizer, [document.text for document in documents])


def _said(when: str, found: Found) -> str:
    lines = f"{found.exact} of {found.lines} lines exact ({found.exact_share:.1%})"
    return f"{when}: {lines}, {found.bits_per_byte:.3f} bits per byte"
