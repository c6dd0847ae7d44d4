"""`viable train fim` and `viable train mtp`: what ships beside the default model, trained from nothing or on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from assistant.cli import train_parts as parts


@click.command("fim")
@parts.training
@click.option("--from", "begin", type=click.Path(path_type=Path, exists=True), metavar="FILE",
              help="Go on from this adapter [from nothing].")  # fmt: skip
@click.option("--rank", default=16, metavar="R", help="Of the pairs, from nothing.")
@click.option("--rate", default=5e-4, show_default=True, metavar="LR", help="Highest learning rate.")
@click.option("--budget", default=32768, show_default=True, metavar="TOKENS", help="Of a batch, padding included.")
@click.option("--prompt-weight", default=0.25, show_default=True, metavar="N",
              help="What the prompt's tokens count beside the gap's, together.")  # fmt: skip
def fim(
    model: str, device: str, data: Path, out: Path, seed: int, steps: int, seconds: float, compiled: bool,
    files: Path | None, count: int, begin: Path | None, rank: int, rate: float, budget: int, prompt_weight: float,
) -> None:  # fmt: skip
    """Train the gap-filling adapter: OUT/fim-adapter.safetensors, OUT/log.jsonl, OUT/curves.svg, OUT/figures.json.

    \b
    viable train fim --data corpus --out fim --seconds 500 --compile --from model/weights/fim-adapter.safetensors \\
        --files held-out.jsonl

    Started again after a stop, it goes on at its checkpoint, and what was measured is not measured again.
    """
    import model as models
    from assistant.eval import trained
    from model import lora
    from model.train.corpus import Corpus
    from model.train.fim import GapPlan, GapTask
    from model.train.loop import Plan, run
    from model.train.plot import curves

    schedule = Plan(steps=steps, minutes=parts.minutes(steps, seconds), rate=rate, save_seconds=60.0)
    path, where = parts.path_of(model), parts.place(device)
    out.mkdir(parents=True, exist_ok=True)
    asked = trained.Asked(path, *where, files, count) if files else None
    if asked:
        trained.kept(out / "figures.json", "before", lambda: trained.gaps(asked, begin, click.echo))
    decoder = models.load(path, *where, trainable=True)
    tokenizer = models.load_tokenizer(path)
    adapter = lora.load(begin) if begin else lora.fresh(decoder, rank, seed)
    plan = GapPlan(budget=budget, prompt_weight=prompt_weight, seed=seed)
    marks = tokenizer.specials.values()
    task = GapTask(decoder, adapter, Corpus(data), plan, parts.end_id(tokenizer), marks)
    if compiled:
        task.compile()
    last = run(task, schedule, out)
    about = {"task": "fim", "base": parts.digest(path), "rank": next(iter(adapter.pairs.values()))[0].shape[0]}
    about |= {"data": parts.data_digest(data), "steps": last["step"], "rate": rate, **asdict(plan)}
    about |= {"from": parts.digest(begin)} if begin else {}
    made = out / parts.FIM
    lora.save(lora.Adapter(lora.detach(decoder).pairs, {key: str(value) for key, value in about.items()}), made)
    panels = {"loss": ["per_token", "prompt"], "tokens right": ["right"]}
    (out / "curves.svg").write_text(curves(out / "log.jsonl", panels))
    click.echo(f"{made}: {made.stat().st_size:,} bytes, {last}")
    del task, decoder
    if asked:
        _compared(trained.kept(out / "figures.json", "after", lambda: trained.gaps(asked, made, click.echo)))


@click.command("mtp")
@parts.training
@click.option("--from", "begin", type=click.Path(path_type=Path, exists=True), metavar="FILE",
              help="Go on from these modules, their width and ids [from nothing].")  # fmt: skip
@click.option("--adapter", type=click.Path(path_type=Path, exists=True), help="The gap-filling adapter that is served.")
@click.option("--beta", default=0.0, metavar="B", help="Weight of the error compensation between depths.")
@click.option("--run-on", default=(0.8, 0.5), show_default=True, type=float, multiple=True, metavar="W",
              help="Weight of a token that the last module drafts from its own state; again: of the next.")  # fmt: skip
@click.option("--rate", default=8e-4, show_default=True, metavar="LR", help="Highest learning rate.")
@click.option("--rows", default=16, metavar="N", help="Texts of a batch.")
@click.option("--time", "length", default=1024, metavar="TOKENS", help="Tokens of a text.")
@click.option("--middle-weight", default=4.0, show_default=True, metavar="N", help="What a token in a gap counts.")
@click.option("--width", default=3840, metavar="N", help="Feed-forward features, from nothing.")
@click.option("--vocabulary", default=32768, metavar="N", help="Ids that can be drafted, from nothing.")
def mtp(
    model: str, device: str, data: Path, out: Path, seed: int, steps: int, seconds: float, compiled: bool,
    files: Path | None, count: int, begin: Path | None, adapter: Path | None, beta: float,
    run_on: tuple[float, ...], rate: float, rows: int, length: int, middle_weight: float, width: int, vocabulary: int,
) -> None:  # fmt: skip
    """Train two MTP modules: OUT/mtp.safetensors, OUT/log.jsonl, OUT/curves.svg, OUT/figures.json.

    \b
    viable train mtp --data corpus --out mtp --seconds 500 --compile --from model/weights/mtp.safetensors \\
        --adapter fim/fim-adapter.safetensors --files held-out.jsonl

    Started again after a stop, it goes on at its checkpoint, and what was measured is not measured again.
    """
    import model as models
    from assistant.eval import trained
    from model import lora
    from model import mtp as modules
    from model.train.corpus import Corpus
    from model.train.draft import DraftPlan, DraftTask, drafted_ids
    from model.train.loop import Plan, run
    from model.train.plot import curves

    schedule = Plan(steps=steps, minutes=parts.minutes(steps, seconds), rate=rate, save_seconds=60.0)
    path, where = parts.path_of(model), parts.place(device)
    out.mkdir(parents=True, exist_ok=True)
    asked = trained.Asked(path, *where, files, count) if files else None
    if asked and begin:
        trained.kept(out / "figures.json", "before", lambda: trained.drafts(asked, adapter, begin, click.echo))
    decoder = models.load(path, *where, trainable=True)
    corpus, end = Corpus(data), parts.end_id(models.load_tokenizer(path))
    if begin:
        learning = modules.load(begin, decoder).requires_grad_(True).train()
    else:
        shape = modules.MTPConfig(2, width, min(vocabulary, len(corpus.frequent)))
        learning = modules.fresh(decoder, shape, drafted_ids(corpus.frequent, shape.vocabulary, [end]), seed)
    switch = lora.attach(decoder, lora.load(adapter)) if adapter else None
    alpha = (*[1.0] * learning.config.depth, *(weight for weight in run_on if weight))
    plan = DraftPlan(rows=rows, time=length, middle_weight=middle_weight, alpha=alpha, beta=beta, seed=seed)
    task = DraftTask(decoder, learning, corpus, plan, switch, end)
    if compiled:
        task.compile()
    last = run(task, schedule, out)
    about: dict[str, Any] = {"base": parts.digest(path), "data": parts.data_digest(data), "steps": last["step"]}
    about |= {"rate": rate, **asdict(plan), "adapter": parts.digest(adapter) if adapter else ""}
    about |= {"from": parts.digest(begin)} if begin else {}
    learning.about = {key: str(value) for key, value in about.items()}
    made = out / parts.MTP
    modules.save(learning, made)
    panels = {
        title: [f"{name}_{k}" for k in range(1, len(alpha) + 1)]
        for title, name in (("loss", "loss"), ("accepted", "accepted"), ("held out", "held_out"))
    }
    (out / "curves.svg").write_text(curves(out / "log.jsonl", panels))
    click.echo(f"{made}: {made.stat().st_size:,} bytes, {last}")
    del task, learning, decoder
    if asked:
        _compared(trained.kept(out / "figures.json", "after", lambda: trained.drafts(asked, adapter, made, click.echo)))


def _compared(figures: dict[str, Any]) -> None:
    click.echo(json.dumps(figures))
