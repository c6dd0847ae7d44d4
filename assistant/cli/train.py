"""`viable train`: make the gap-filling adapter and the MTP modules of a model, from installed Python source."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from assistant.errors import UsageProblem

END = "<|endoftext|>"


@click.group()
def command() -> None:
    """Train what ships beside the default model, and measure it.

    \b
    viable train data --out corpus                         choose, encode and cut source
    viable train fim --data corpus --out fim --minutes 8   the gap-filling adapter
    viable train mtp --data corpus --adapter fim/fim-adapter.safetensors --out mtp --minutes 8
    viable train held-out --site DIR --out held-out.jsonl  files to measure with
    viable train measure --files held-out.jsonl --adapter ... --mtp ...

    A run that is stopped goes on at its checkpoint when it is started again.
    """


def _model(text: str) -> Path:
    """A path as it is; a name through the store."""
    if Path(text).exists():
        return Path(text)
    from assistant import store
    from assistant.settings import Settings

    return store.resolve(text or Settings().model, offline=True).path


def _place(device: str) -> tuple[str, str]:
    """The device, and what weights are held in there: gradients need floating point."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, "bfloat16" if device == "cuda" else "float32"


def _build(tokenizer: Any, prefix: str, suffix: str, budget: int) -> tuple[int, ...]:
    from assistant import prompt

    return prompt.build(tokenizer, prefix, suffix, budget).ids


def _end_id(tokenizer: Any) -> int:
    """The end id that is taught: one that the product stops at."""
    return int(tokenizer.specials[END]) if END in tokenizer.specials else min(tokenizer.end_ids)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_MODEL = click.option("--model", default="", metavar="NAME|PATH", help="Model [the default one].")
_DEVICE = click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu or cuda.")
_OUT = click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where it goes.")
_DATA = click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, metavar="DIR")
_SEED = click.option("--seed", default=0, metavar="N", help="Decides everything that is drawn.")
_STEPS = click.option("--steps", default=0, metavar="N", help="How long, in steps.")
_MINUTES = click.option("--minutes", default=0.0, metavar="M", help="How long, in minutes, if not in steps.")


@command.command("data")
@_MODEL
@_OUT
@_SEED
@click.option("--site", multiple=True, metavar="DIR", help="Where packages are [what this Python sees].")
@click.option("--workers", default=os.cpu_count() or 1, metavar="N", help="Processes.")
@click.option("--gaps", default=2.0, metavar="N", help="Gaps per document.")
def data(model: str, out: Path, seed: int, site: tuple[str, ...], workers: int, gaps: float) -> None:
    """Choose the source that is trained on, encode it, cut gaps, write a manifest.

    Only packages whose metadata state a permissive licence; never those that are held out for measuring.
    """
    from model import load_tokenizer
    from model.train.corpus import Recipe, write
    from model.train.manifest import installed

    tokenizer = load_tokenizer(_model(model))
    begin = time.perf_counter()
    recipe = Recipe(_build, _end_id(tokenizer), gaps, seed)
    manifest, _ = write(out, installed(list(site) or None), tokenizer, recipe, workers)
    for entry in manifest.packages:
        click.echo(f"{entry.package} {entry.version}  {entry.licence}  {entry.files} files  {entry.bytes:,} bytes")
    for refused in manifest.refused:
        click.echo(f"refused: {refused}")
    click.echo(
        f"{manifest.files} files, {manifest.bytes:,} bytes, {manifest.tokens:,} tokens; left out: {manifest.dropped}; "
        f"{time.perf_counter() - begin:.0f} s"
    )


@command.command("fim")
@_MODEL
@_DEVICE
@_DATA
@_OUT
@_SEED
@_STEPS
@_MINUTES
@click.option("--rank", default=16, metavar="R", help="Of the pairs.")
@click.option("--rate", default=5e-4, metavar="LR", help="Highest learning rate.")
@click.option("--budget", default=32768, metavar="TOKENS", help="Tokens of a batch, padding included.")
def fim(
    model: str, device: str, data: Path, out: Path, seed: int, steps: int, minutes: float, rank: int, rate: float,
    budget: int,
) -> None:  # fmt: skip
    """Train the gap-filling adapter: OUT/fim-adapter.safetensors, OUT/log.jsonl, OUT/curves.svg."""
    import model as models
    from model import lora
    from model.train.corpus import Corpus
    from model.train.fim import GapTask
    from model.train.loop import Plan, run
    from model.train.plot import curves

    _asked_length(steps, minutes)
    path = _model(model)
    decoder = models.load(path, *_place(device))
    tokenizer = models.load_tokenizer(path)
    adapter = lora.fresh(decoder, rank, seed)
    task = GapTask(decoder, adapter, Corpus(data), budget=budget, seed=seed, pad_id=_end_id(tokenizer))
    last = run(task, Plan(steps=steps, minutes=minutes, rate=rate), out)
    about = {
        "task": "fim",
        "base": _digest(path),
        "rank": rank,
        "seed": seed,
        "data": _data(data),
        "steps": last["step"],
    }
    lora.save(lora.Adapter(lora.detach(decoder).pairs, {k: str(v) for k, v in about.items()}), out / FIM)
    (out / "curves.svg").write_text(curves(out / "log.jsonl", {"loss": ["per_token"], "tokens right": ["right"]}))
    click.echo(f"{out / FIM}: {(out / FIM).stat().st_size:,} bytes, {last}")


FIM, MTP = "fim-adapter.safetensors", "mtp.safetensors"


@command.command("mtp")
@_MODEL
@_DEVICE
@_DATA
@_OUT
@_SEED
@_STEPS
@_MINUTES
@click.option("--adapter", type=click.Path(path_type=Path, exists=True), help="The gap-filling adapter that is served.")
@click.option("--beta", default=0.0, metavar="B", help="Weight of the error compensation between depths.")
@click.option("--rate", default=8e-4, metavar="LR", help="Highest learning rate.")
@click.option("--rows", default=16, metavar="N", help="Texts of a batch.")
@click.option("--time", "length", default=1024, metavar="TOKENS", help="Tokens of a text.")
@click.option("--width", default=3840, metavar="N", help="Feed-forward features.")
@click.option("--vocabulary", default=32768, metavar="N", help="Ids that can be drafted.")
@click.option("--compile/--no-compile", "compiled", default=False, help="Let PyTorch compile the blocks.")
def mtp(
    model: str, device: str, data: Path, out: Path, seed: int, steps: int, minutes: float, adapter: Path | None,
    beta: float, rate: float, rows: int, length: int, width: int, vocabulary: int, compiled: bool,
) -> None:  # fmt: skip
    """Train two MTP modules: OUT/mtp.safetensors, OUT/log.jsonl, OUT/curves.svg."""
    import model as models
    from model import lora
    from model import mtp as modules
    from model.train.corpus import Corpus
    from model.train.draft import DraftPlan, DraftTask, drafted_ids
    from model.train.loop import Plan, run
    from model.train.plot import curves

    _asked_length(steps, minutes)
    path = _model(model)
    decoder = models.load(path, *_place(device))
    tokenizer = models.load_tokenizer(path)
    corpus = Corpus(data)
    end = _end_id(tokenizer)
    shape = modules.MTPConfig(2, width, min(vocabulary, len(corpus.frequent)))
    ids = drafted_ids(corpus.frequent, shape.vocabulary, [end])
    trained = modules.fresh(decoder, shape, ids, seed)
    switch = lora.attach(decoder, lora.load(adapter)) if adapter else None
    plan = DraftPlan(rows=rows, time=length, beta=beta, seed=seed)
    task = DraftTask(decoder, trained, corpus, plan, switch, end)
    if compiled:
        task.compile()
    last = run(task, Plan(steps=steps, minutes=minutes, rate=rate), out)
    about = {"base": _digest(path), "seed": seed, "data": _data(data), "steps": last["step"], **asdict(plan)}
    about["adapter"] = _digest(adapter) if adapter else ""
    trained.about = {key: str(value) for key, value in about.items()}
    modules.save(trained, out / MTP)
    panels = {
        "loss": ["loss_1", "loss_2"],
        "accepted": ["accepted_1", "accepted_2"],
        "held out": ["held_out_1", "held_out_2"],
    }
    (out / "curves.svg").write_text(curves(out / "log.jsonl", panels))
    click.echo(f"{out / MTP}: {(out / MTP).stat().st_size:,} bytes, {last}")


def _asked_length(steps: int, minutes: float) -> None:
    if (steps > 0) == (minutes > 0):
        raise UsageProblem("say how long: either --steps or --minutes")


def _data(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["sha256"])


@command.command("held-out")
@click.option("--site", type=click.Path(path_type=Path, exists=True), required=True, metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option("--count", default=600, metavar="N")
@_SEED
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
@_MODEL
@_DEVICE
@_SEED
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
    import model as models
    from assistant.eval import drafts as drafting
    from assistant.eval import fim as filling
    from model import lora
    from model import mtp as modules

    path = _model(model)
    decoder = models.load(path, *_place(device))
    tokenizer = models.load_tokenizer(path)
    switch = lora.attach(decoder, lora.load(adapter)) if adapter else lora.Switch()
    held = filling.read_files(files)[:count]
    cuts = filling.gaps(held, seed)
    figures: dict[str, Any] = {"files": len(held), "seed": seed}
    if drafts is None:
        results, _ = filling.measure(decoder, tokenizer, cuts, max_tokens, rows)
        click.echo(filling.table(results))
        figures["gaps"] = [asdict(result) for result in results]
    else:
        trained = modules.load(drafts, decoder, decoder.dtype)
        special = frozenset(tokenizer.specials.values())
        plain = [tokenizer.encode(cut.prefix)[-1024:] for cut in cuts if cut.shape == "lines"]
        gaps = [_build(tokenizer, cut.prefix, cut.suffix, 2048) for cut in cuts]
        for name, prompts, on, most in (("plain", plain, False, 96), ("gaps", gaps, True, max_tokens)):
            with switch.set(on):
                found = drafting.measure(decoder, trained, prompts, max_tokens=min(most, max_tokens), end_ids=special)
            click.echo(f"{name}: {found.tokens_per_pass:.3f} tokens per pass; {found}")
            figures[name] = {"tokens_per_pass": round(found.tokens_per_pass, 4), **asdict(found)}
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n")
