"""The losses against plain twins, the loop against a kill, the tasks on a tiny model, the commands by their door."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from assistant.cli.train import command
from model import ModelUsageError, lora, mtp
from model.train.batched import generate
from model.train.draft import DraftPlan, DraftTask, drafted_ids, drift
from model.train.fim import GapPlan, GapTask, batches, padded
from model.train.loop import Plan, run
from model.train.mtp_loss import accepted, compensated, soft_cross_entropy, tokens_per_pass
from model.train.plot import curves
from tests.train import small
from tests.train.test_selection import code, distribution


def test_soft_cross_entropy_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 7, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    weights = torch.tensor([1.0, 0.0, 4.0, 1.0, 0.5])
    total = 0.0
    for i in range(5):
        p = teacher[i].exp() / teacher[i].exp().sum()
        q = student[i].exp() / student[i].exp().sum()
        total += float(weights[i]) * -sum(float(p[v]) * float(q[v].log()) for v in range(7))
    assert soft_cross_entropy(student, teacher, weights).item() == pytest.approx(total / 6.5, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 3.0])
def test_compensated_loss_and_its_gradient(beta: float) -> None:
    values = torch.tensor([1.5, 2.25, 2.0], requires_grad=True)
    alpha = (1.0, 0.5, 0.25)
    loss = compensated(list(values), alpha, beta)
    assert loss.item() == pytest.approx(1.5 + 1.125 + 0.5 + beta / 2 * (0.75**2 + 0.25**2))
    (gradient,) = torch.autograd.grad(loss, values)
    # d/dL_i = α_i + β (L_i - L_{i-1}) - β (L_{i+1} - L_i)
    expected = [1.0 - beta * 0.75, 0.5 + beta * 0.75 - beta * -0.25, 0.25 + beta * -0.25]
    assert gradient.tolist() == pytest.approx(expected)


def test_a_draft_counts_only_behind_right_ones() -> None:
    first = torch.tensor([[True, True, False, True]])
    second = torch.tensor([[True, False, True]])
    assert [mask.tolist() for mask in accepted([first, second])] == [
        [[True, True, False, True]],
        [[True, False, False]],
    ]
    assert tokens_per_pass([0.75, 0.5]) == 2.25
    assert drift([0.8, 0.6]) == pytest.approx(0.05)


class Quadratic:
    """Fits a line to batches that their number decides."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.weight = nn.Parameter(torch.zeros(3))
        self.stop_at = stop_at
        self.made: list[int] = []

    def parameters(self) -> list[nn.Parameter]:
        return [self.weight]

    def batch(self, step: int) -> Tensor:
        return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))

    def tokens(self, batch: Tensor) -> int:
        return 8

    def loss(self, batch: Tensor, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        if self.stop_at is not None and len(self.made) == self.stop_at:
            raise KeyboardInterrupt
        self.made.append(int(progress * 1000))
        error = (batch @ self.weight - batch @ torch.tensor([1.0, -2.0, 0.5])).pow(2).mean()
        return error, {"error": error.detach()}

    def weights(self, progress: float) -> AbstractContextManager[None]:
        return nullcontext()

    def measure(self) -> Mapping[str, float]:
        return {"held_out": float(self.weight.detach().sum())}


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


@pytest.mark.parametrize("killed_at", [1, 7, 13])
def test_killed_and_resumed_is_uninterrupted(tmp_path: Path, killed_at: int) -> None:
    plan = Plan(steps=20, rate=0.05, every=1, measured=5, save_seconds=0.0)
    quiet = lambda line: None  # noqa: E731
    whole = Quadratic()
    run(whole, plan, tmp_path / "whole", quiet)
    with pytest.raises(KeyboardInterrupt):
        run(Quadratic(stop_at=killed_at), plan, tmp_path / "killed", quiet)
    (tmp_path / "killed" / "checkpoint.part").write_bytes(b"half a checkpoint")
    resumed = Quadratic()
    last = run(resumed, plan, tmp_path / "killed", quiet)
    assert len(resumed.made) == 20 - killed_at
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert [step for step, _ in losses(tmp_path / "killed")] == list(range(1, 21))
    assert torch.equal(resumed.weight, whole.weight)
    assert last["tokens"] == 160 and "held_out" in last
    again = Quadratic()
    assert run(again, plan, tmp_path / "killed", quiet) == last
    assert again.made == [] and torch.equal(again.weight, whole.weight)
    with pytest.raises(ModelUsageError, match="another plan"):
        run(Quadratic(), Plan(steps=21), tmp_path / "killed", quiet)


class Clock:
    """Seconds that only the task spends: `each` a step, and more and more from a step on."""

    def __init__(self, each: float, slower_from: int) -> None:
        self.now, self.each, self.slower_from, self.steps = 0.0, each, slower_from, 0

    def perf_counter(self) -> float:
        return self.now

    def step(self) -> None:
        self.steps += 1
        self.now += self.each * (3 if self.steps > self.slower_from else 1)


class Slow(Quadratic):
    def __init__(self, clock: Clock, stop_at: int | None = None) -> None:
        super().__init__(stop_at)
        self.clock = clock

    def loss(self, batch: Tensor, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        self.clock.step()
        return super().loss(batch, progress)


@pytest.mark.parametrize("slower_from", [10**6, 100])
@pytest.mark.parametrize("killed_at", [None, 7, 90])
def test_minutes_are_kept_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slower_from: int, killed_at: int | None
) -> None:
    """Also by a run that becomes slower on its way, and by one that is stopped and goes on."""
    clock = Clock(0.25, slower_from)
    monkeypatch.setattr("model.train.loop.time", clock)
    plan = Plan(minutes=1.0, every=10, save_seconds=0.0)
    if killed_at:
        with pytest.raises(KeyboardInterrupt):
            run(Slow(clock, killed_at), plan, tmp_path, lambda line: None)
        clock.now += 1000.0
    last = run(Slow(clock), plan, tmp_path, lambda line: None)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert last["steps"] == last["step"] == lines[-1]["step"]
    assert 58.0 <= last["seconds"] <= 61.0
    assert last["rate"] < 0.1 * plan.rate


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    class Broken(Quadratic):
        def loss(self, batch: Tensor, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
            loss, found = super().loss(batch, progress)
            return loss * (torch.nan if len(self.made) == 4 else 1.0), found

    with pytest.raises(ModelUsageError, match="step 4 left weights that are no numbers"):
        run(Broken(), Plan(steps=9, save_seconds=0.0), tmp_path, lambda line: None)
    assert torch.load(tmp_path / "checkpoint.pt")["step"] == 3


def test_the_schedule() -> None:
    plan = Plan(steps=1000, rate=1.0, warmup=10)
    rates = [plan.rate_at(step, 1000) for step in range(1001)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3]) and max(rates) == pytest.approx(1.0)
    assert rates[1000] == pytest.approx(plan.floor) and all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_every_sample_is_in_one_batch_that_fits() -> None:
    lengths = np.random.default_rng(0).integers(5, 500, 700)
    found = list(batches(lengths, 1000, np.random.default_rng(1)))
    assert sorted(np.concatenate(found)) == list(range(700))
    for chosen in found:
        assert padded(int(lengths[chosen].max())) * len(chosen) <= 1000 or len(chosen) == 1


def test_rows_have_few_lengths_that_hold_them() -> None:
    assert [padded(n) for n in (1, 256, 257, 512, 1024, 1025, 1984, 2049)] == [
        256,
        256,
        512,
        512,
        1024,
        2048,
        2048,
        4096,
    ]


def test_an_adapter_learns_middles(tmp_path: Path) -> None:
    made, tokenizer, _ = small.decoder(tmp_path)
    corpus = small.corpus(tmp_path / "corpus", tokenizer, gaps=39)
    end = tokenizer.specials["<|endoftext|>"]
    before = {name: value.clone() for name, value in made.named_parameters()}
    marks = set(tokenizer.specials.values())
    plan = GapPlan(budget=1024, prompt_share=0.25, prompt_weight=0.3)
    task = GapTask(made, lora.fresh(made, 4, 0), corpus, plan, end, marks)
    batch = task.batch(0)
    flat = batch.ids.flatten()
    inside, others = batch.targets[: batch.middles], batch.targets[batch.middles :]
    assert float(batch.weights[: batch.middles].sum()) == pytest.approx(1.0)
    learned = flat[inside + 1]
    assert tokenizer.fim
    samples = int((flat == tokenizer.fim.middle).sum())
    assert int((learned == end).sum()) == samples  # each gap's end, and no padding
    assert int((flat[inside] == tokenizer.fim.middle).sum()) == samples
    assert {task.batch(step).ids.shape for step in range(10)} == {(4, 256)}  # whether there are fewer samples or not
    counts = [int((task.batch(step).ids == tokenizer.fim.middle).sum()) for step in range(10)]
    assert sorted(counts) == [3, *[4] * 9]
    # Of the prompts a quarter of what is text, none of it twice and none of it in a gap.
    assert float(batch.weights[batch.middles :].sum()) == pytest.approx(0.3)
    written = sum(int(middle) - 1 for middle in (flat.view_as(batch.ids) == tokenizer.fim.middle).nonzero()[:, 1])
    assert len(others) == round(0.25 * (written - samples))  # the first and the third mark are not learned
    assert not {int(i) for i in flat[others + 1]} & marks and len(set(others.tolist())) == len(others)
    assert not set(others.tolist()) & set(inside.tolist())
    assert torch.equal(batch.targets, task.batch(0).targets)
    assert not torch.equal(others, task.batch(1).targets[task.batch(1).middles :])
    first, _ = task.loss(batch, 0.0)
    run(task, Plan(steps=10, rate=2e-2, every=5), tmp_path / "run", lambda line: None)
    last, _ = task.loss(batch, 1.0)
    assert last < first - 0.3
    with task.switch.set(False):
        assert task.loss(batch, 1.0)[0] == pytest.approx(first.item(), abs=1e-5)
    trained = lora.detach(made)
    assert all(bool(up.abs().max() > 0) for _, up in trained.pairs.values())
    assert all(torch.equal(value, before[name]) for name, value in made.named_parameters())


def test_modules_learn_to_draft(tmp_path: Path) -> None:
    made, tokenizer, _ = small.decoder(tmp_path)
    corpus = small.corpus(tmp_path / "corpus", tokenizer)
    end = tokenizer.specials["<|endoftext|>"]
    ids = drafted_ids(corpus.frequent, 60, [end])
    assert end in ids and len(set(ids)) == 60
    trained = mtp.fresh(made, mtp.MTPConfig(2, 64, 60), ids, 0)
    switch = lora.attach(made, lora.fresh(made, 2, 0))
    plan = DraftPlan(rows=3, time=192, gap_share=0.5, alpha=(1.0, 1.0, 0.8, 0.5), beta=0.5)
    task = DraftTask(made, trained, corpus, plan, switch, end)
    kinds = [task.batch(step).gaps for step in range(10)]
    assert sum(kinds) == 5
    for a, b in zip(task.batch(3)[:2], task.batch(3)[:2], strict=True):
        assert torch.equal(a, b)
    gaps = task.batch(kinds.index(True))
    for row, weights in zip(gaps.ids, gaps.weights, strict=True):
        written = [int(x) for x in row]
        middle = written.index(tokenizer.fim.middle) + 1 if tokenizer.fim else 0
        stop = written.index(end, middle)
        assert weights[:middle].tolist() == [1.0] * middle
        assert weights[middle : stop + 1].tolist() == [4.0] * (stop + 1 - middle)
        assert not weights[stop + 1 :].any()
    first, parts = task.loss(task.batch(0), 0.0)
    run_on = parts["loss_4"].item()
    before = task.measure()
    last = run(task, Plan(steps=16, rate=3e-3, every=8), tmp_path / "run", lambda line: None)
    assert last["loss"] < first.item() and last["held_out_1"] > before["held_out_1"]
    assert last["loss_4"] < run_on and before["held_out_tokens_per_pass"] <= 3
    picture = curves(tmp_path / "run" / "log.jsonl", {"loss": ["loss_1", "loss_2"], "nothing": ["missing"]})
    assert picture.count("<polyline") == 2 and "nothing logged" in picture


def test_weights_are_rounded_while_gradients_are_taken_and_no_longer(tmp_path: Path) -> None:
    made, tokenizer, _ = small.decoder(tmp_path)
    corpus = small.corpus(tmp_path / "corpus", tokenizer)
    trained = mtp.fresh(made, mtp.MTPConfig(2, 64, 60), range(60), 0)
    task = DraftTask(made, trained, corpus, DraftPlan(rows=2, time=64, round_from=0.5), None, 0)
    matrix = trained.depths[0].projection.weight
    real = matrix.detach().clone()
    with task.weights(0.49):
        assert torch.equal(matrix, real)
    with pytest.raises(RuntimeError, match="stop"), task.weights(0.5):
        assert torch.equal(matrix, mtp.rounded(real)) and not torch.equal(matrix, real)
        raise RuntimeError("stop")
    assert torch.equal(matrix, real)


def test_many_prompts_at_once_are_answered_as_one_by_one(tmp_path: Path) -> None:
    made, tokenizer, _ = small.decoder(tmp_path)
    prompts = [small.ids_like(tokenizer, 1, n, seed=n)[0].tolist() for n in (5, 70, 33, 1)]
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(9):
            ids.append(int(made(torch.tensor([ids]))[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    assert generate(made, prompts, max_tokens=9, end_ids=frozenset(), rows=2) == expected
    end = expected[1][4]
    stopped = generate(made, prompts, max_tokens=9, end_ids=frozenset([end]), rows=5)
    for answer, whole in zip(stopped, expected, strict=True):
        assert answer == (whole[: whole.index(end) + 1] if end in whole else whole)


def test_the_commands_from_source_to_figures(tmp_path: Path) -> None:
    _, _, path = small.decoder(tmp_path, context=4096)
    site = tmp_path / "site"
    files = {f"good/{name}.py": code(name, i) for i, name in enumerate("abcdefgh")}
    distribution(site, "good", "License-Expression: MIT", files)
    distribution(site, "networkx", "License-Expression: MIT", {"networkx/held.py": code("held", 9) * 2})

    def viable(*arguments: str) -> str:
        result = CliRunner().invoke(command, [*arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    data, fim, drafts = (str(tmp_path / name) for name in ("data", "fim", "mtp"))
    common = ("--model", str(path), "--device", "cpu", "--data", data, "--steps", "2")
    said = viable("data", "--model", str(path), "--site", str(site), "--workers", "1", "--out", data)
    assert "good 1.0  MIT  8 files" in said
    viable("fim", *common, "--out", fim, "--rank", "2", "--budget", "2048")
    adapter = str(tmp_path / "fim" / "fim-adapter.safetensors")
    assert lora.load(Path(adapter)).about["task"] == "fim"
    held = str(tmp_path / "held.jsonl")
    assert "1 files" in viable("held-out", "--site", str(site), "--out", held)
    small_modules = ("--rows", "2", "--time", "64", "--width", "64", "--vocabulary", "50")
    viable("mtp", *common, "--out", drafts, "--adapter", adapter, *small_modules)
    measured = ("--model", str(path), "--device", "cpu", "--files", held, "--max-tokens", "4", "--adapter", adapter)
    said = viable("measure", *measured)
    assert "line end" in said and "lines" in said and "span" in said
    figures = tmp_path / "figures.json"
    viable("measure", *measured, "--mtp", str(tmp_path / "mtp" / "mtp.safetensors"), "--out", str(figures))
    assert [block["tokens"] for block in json.loads(figures.read_text())["plain"]] == [4, 4, 4]
    assert (tmp_path / "mtp" / "curves.svg").read_text().startswith("<svg")

    # On from what there is, measured before and after; started again, nothing is left to do.
    asked = ("--files", held, "--count", "1")
    for name, begin, more in (
        ("fim", adapter, ()),
        ("mtp", f"{drafts}/mtp.safetensors", ("--adapter", adapter, *small_modules[:4])),
    ):
        out = tmp_path / f"{name}-on"
        arguments = (name, *common, "--seed", "1", "--out", str(out), "--from", begin, *asked, *more)
        found = json.loads(viable(*arguments).splitlines()[-1])
        assert set(found) == {"before", "after"} and json.loads((out / "figures.json").read_text()) == found
        assert json.loads(viable(*arguments).splitlines()[-1]) == found
    assert lora.load(tmp_path / "fim-on" / "fim-adapter.safetensors").about["rank"] == "2"
    before, after = (lora.load(Path(p)).pairs for p in (adapter, tmp_path / "fim-on" / "fim-adapter.safetensors"))
    assert any(not torch.equal(before[key][1], after[key][1]) for key in before)
    assert found["after"]["gaps"][0]["answers"] == 3 and found["after"]["plain"][2]["answers"] == 1
