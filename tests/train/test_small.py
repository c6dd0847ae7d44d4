"""The small model: its vocabulary, its network against `transformers`, its trainer against a kill, its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import model
from assistant import prompt
from assistant.cli.train import command
from model import BadWeights, ModelUsageError, Tokenizer
from model.companions import FOLDER
from model.loaders.drafting import load_drafts
from model.loaders.gguf import GGUF
from model.mtp import rounded
from model.small import stored, vocabulary
from model.small.network import MoE, Network, grouped
from model.small.shape import TINY, Shape
from model.train import lines, muon
from model.train.loop import Plan, run
from model.train.small import SmallPlan, SmallTask, optimiser, token_losses
from model.train.streams import Gaps, Streams, open_streams
from tests.tiny import write_tiny_gguf
from tests.train.test_selection import code, distribution

AS_PUBLISHED = replace(TINY, scoring="sigmoid", normalised=True, scaling=2.5)
DENSE = replace(TINY, attention="gqa", feed_forward="dense")
SHIPPED = model.load_tokenizer(FOLDER / "viable-small")


@given(st.text())
def test_any_text_survives_the_shipped_vocabulary(text: str) -> None:
    assert SHIPPED.decode(SHIPPED.encode(text)) == text.encode("utf-8", "replace").decode("utf-8")


def test_the_shipped_vocabulary_fits_sixteen_bits_and_fills_gaps() -> None:
    assert SHIPPED.vocab_size == 32_768 and SHIPPED.fim is not None and len(SHIPPED.end_ids) == 1
    singles = {piece for piece in SHIPPED.pieces if piece is not None and len(piece) == 1}
    assert len(singles) == 256
    assert len(vocabulary.base_ids(FOLDER / "viable-small")) == 32_768


class TestSubset:
    """All tokens of the tiny model's vocabulary but some."""

    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        return write_tiny_gguf(tmp_path)

    def test_all_of_it_cuts_every_text_as_before(self, base: Path, tmp_path: Path) -> None:
        whole = model.load_tokenizer(base)
        size = 256 + 13 + 7
        vocabulary.write(vocabulary.subset(GGUF(base).metadata, range(270), size), tmp_path / "all")
        part, ids = model.load_tokenizer(tmp_path / "all"), vocabulary.base_ids(tmp_path / "all")
        text = "def f():\n    return '<|endoftext|>' + naïve\n\n\n        in def return"
        assert [int(ids[i]) for i in part.encode(text)] == whole.encode(text)

    def test_what_a_token_is_merged_from_is_kept(self, base: Path, tmp_path: Path) -> None:
        # "return" is the tenth merge, and is made of re, ret, ur, retur.
        vocabulary.write(vocabulary.subset(GGUF(base).metadata, [265], 256 + 5 + 7), tmp_path / "some")
        part, whole = model.load_tokenizer(tmp_path / "some"), model.load_tokenizer(base)
        ids = vocabulary.base_ids(tmp_path / "some")
        assert [int(ids[i]) for i in part.encode("return")] == whole.encode("return") == [265]
        assert [part.pieces[i] for i in part.encode("def")] == [b"d", b"e", b"f"]

    def test_more_tokens_than_there_are(self, base: Path) -> None:
        with pytest.raises(ModelUsageError, match="not 9999"):
            vocabulary.subset(GGUF(base).metadata, range(270), 9999)


def random_network(shape: Shape, seed: int = 0) -> Network:
    """With norms and biases that are not all the same."""
    network = Network(shape, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize("shape", [AS_PUBLISHED, DENSE], ids=["mla", "gqa"])
def test_the_folder_is_what_transformers_reads(shape: Shape, tmp_path: Path) -> None:
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    shape = replace(shape, vocabulary=300)
    stored.save(random_network(shape), tmp_path / "m", {}, four_bits=False)
    network = stored.load(tmp_path / "m")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    ids = torch.randint(0, 300, (2, 33 + shape.depth), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states, _ = network.states(ids, 33, 1, torch.float32)
        ours = network.logits(states[0])
        expected = theirs(ids[:, :33]).logits
    assert len(states) == 1 + shape.depth
    assert float((ours - expected).norm() / expected.norm()) < 1e-5


CHAINED = replace(TINY, chain_normed=False)
ALONE = replace(DENSE, depth=0)
FOLDERS = {"mla": TINY, "sigmoid": AS_PUBLISHED, "chained": CHAINED, "gqa": DENSE, "gqa-alone": ALONE}


@pytest.mark.parametrize("shape", FOLDERS.values(), ids=FOLDERS)
@pytest.mark.parametrize("four_bits", [True, False])
def test_the_decoder_of_the_folder_is_the_network(shape: Shape, four_bits: bool, tmp_path: Path) -> None:
    shape = replace(shape, vocabulary=300)
    stored.save(random_network(shape), tmp_path / "m", {}, four_bits)
    network, decoder = stored.load(tmp_path / "m"), model.load(tmp_path / "m", "cpu", "float32")
    ids = torch.randint(0, 300, (2, 33 + shape.depth), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states, _ = network.states(ids, 33, 1, torch.float32)
        pairs = [(network.logits(states[0]), decoder(ids[:, :33]))]
        if shape.depth:
            modules = load_drafts(tmp_path / "m", decoder)
            head = modules.head_rows(decoder)
            behind = modules.states(decoder, ids, decoder.hidden(ids))
            for d, state in enumerate(behind):
                pairs.append((network.logits(states[d + 1]), modules.logits(d, state[:1, :33], head)))
    for ours, expected in pairs:
        assert float((ours - expected).norm() / expected.norm()) < 1e-5


def test_experts_one_by_one_give_the_same() -> None:
    torch.manual_seed(0)
    layer = MoE(TINY)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 17, TINY.width, requires_grad=True)
    y, loads = layer(x)
    weights, chosen = layer.route(x.flatten(0, 1))
    expected = layer.shared(x)[0].flatten(0, 1).clone()
    for token, (ws, es) in enumerate(zip(weights, chosen, strict=True)):
        for w, e in zip(ws, es, strict=True):
            gate, up = (layer.gate_up[e] @ x.flatten(0, 1)[token]).chunk(2)
            expected[token] += w * (layer.down[e] @ (nn.functional.silu(gate) * up))
    torch.testing.assert_close(y.flatten(0, 1), expected)
    assert loads.tolist() == torch.bincount(chosen.flatten(), minlength=TINY.experts).tolist()
    parameters = [x, layer.gate_up, layer.down, layer.router]
    mine, theirs = (torch.autograd.grad(v.square().sum(), parameters, retain_graph=True) for v in (y, expected))
    for one, other in zip(mine, theirs, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5


def test_grouped_product_with_an_expert_that_has_nothing() -> None:
    rows, weights = torch.randn(6, 4), torch.randn(3, 5, 4)
    y = grouped(rows, weights, torch.tensor([2, 2, 6], dtype=torch.int32))
    torch.testing.assert_close(y, torch.cat([rows[:2] @ weights[0].T, rows[2:] @ weights[2].T]))


def test_four_bits_come_back_as_they_were_rounded(tmp_path: Path) -> None:
    network = random_network(replace(TINY, vocabulary=300))
    stored.save(network, tmp_path / "m", {"steps": "3"})
    again = dict(stored.load(tmp_path / "m").named_parameters())
    for name, value in network.named_parameters():
        expected = rounded(value.flatten(0, -2)).view_as(value) if stored.in_four_bits(name, value.dim()) else value
        close = {"rtol": 0.01, "atol": 1e-3} if name.endswith("router") else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(again[name], expected, **close)
    stored.save(stored.load(tmp_path / "m"), tmp_path / "again", {"steps": "3"})
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()


def test_a_folder_that_lacks_something(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    stored.save(random_network(replace(TINY, vocabulary=300)), tmp_path, {})
    good = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.experts.3.up_proj.weight.codes"
    for change, message in (
        ({name: None}, "no tensor model.layers.0.mlp.experts.3.up_proj.weight"),
        ({"more": torch.zeros(1)}, "unknown tensors: more"),
        ({"model.norm.weight": torch.full((64,), torch.nan)}, "model.norm.weight holds NaN"),
        ({"model.norm.weight": torch.zeros(3)}, r"model.norm.weight is \[3\]"),
    ):
        tensors = {key: value for key, value in {**good, **change}.items() if value is not None}
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(BadWeights, match=message):
            stored.load(tmp_path)


def test_muon_turns_singular_values_into_about_one() -> None:
    for shape in ((5, 3), (3, 5), (2, 4, 4)):
        values = torch.linalg.svdvals(muon.orthogonal(torch.randn(*shape, generator=torch.Generator().manual_seed(1))))
        assert float(values.min()) > 0.3 and float(values.max()) < 1.4


def test_muon_is_its_formulas() -> None:
    torch.manual_seed(0)
    matrices, vector = [nn.Parameter(torch.randn(4, 6)) for _ in range(2)], nn.Parameter(torch.randn(5))
    table = nn.Parameter(torch.randn(7, 3))
    named = [("a", matrices[0]), ("b", matrices[1]), ("embedding", table), ("v", vector)]
    ours = muon.Muon(muon.groups(named, decay=0.1))
    expected, plain = (
        [m.detach().clone() for m in matrices],
        [nn.Parameter(p.detach().clone()) for p in (table, vector)],
    )
    adam = torch.optim.AdamW(plain, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0, eps=1e-10)
    momenta = [torch.zeros(4, 6) for _ in range(2)]
    for _ in range(4):
        for group in ours.param_groups:
            group["lr"] = 0.01
        for parameter in (*matrices, table, vector):
            parameter.grad = torch.randn_like(parameter)
        for copy, parameter in zip(plain, (table, vector), strict=True):
            assert parameter.grad is not None
            copy.grad = parameter.grad.clone()
        for i, matrix in enumerate(matrices):
            assert matrix.grad is not None
            momenta[i] = 0.95 * momenta[i] + 0.05 * matrix.grad
            update = muon.orthogonal(0.05 * matrix.grad + 0.95 * momenta[i])
            expected[i] = expected[i] * (1 - 0.01 * 0.1) - 0.01 * 0.2 * 6**0.5 * update
        ours.step()
        adam.step()
    for one, other in zip([*matrices, table, vector], [*expected, *plain], strict=True):
        torch.testing.assert_close(one.detach(), other.detach())


def small_task(streams: Path, shape: Shape = TINY, seed: int = 0, **changes: Any) -> SmallTask:
    plan = replace(SmallPlan(rows=4, time=48, held_out_rows=8, seed=seed), **changes)
    return SmallTask(Network(shape, seed), open_streams(streams), plan, SHIPPED)


class Killed(Exception):
    pass


@pytest.mark.parametrize("shape", [TINY, DENSE], ids=["moe", "dense"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(streams: Path, tmp_path: Path, shape: Shape) -> None:
    plan = Plan(steps=6, rate=3e-3, shape="stable", floor=0.0, every=1, measured=100, save_seconds=0.0, decay=0.1)
    whole = small_task(streams, shape, round_from=0.5)
    run(whole, plan, tmp_path / "whole", lambda line: None, optimiser)

    class Dying(SmallTask):
        @contextmanager
        def as_saved(self) -> Iterator[None]:
            with super().as_saved():
                yield
            raise Killed

    broken = small_task(streams, shape, round_from=0.5)
    broken.__class__ = Dying
    with pytest.raises(Killed):
        run(broken, plan, tmp_path / "broken", lambda line: None, optimiser)
    resumed = small_task(streams, shape, seed=0, round_from=0.5)
    for parameter in resumed.parameters():
        parameter.data.fill_(7.0)  # all of it must come from the checkpoint
    run(resumed, plan, tmp_path / "broken", lambda line: None, optimiser)
    for (name, one), other in zip(whole.network.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name
    lines = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "broken")
    ]
    assert [line.get("loss") for line in lines[0]] == [line.get("loss") for line in lines[1]]


def test_it_learns_and_keeps_experts_busy(streams: Path, tmp_path: Path) -> None:
    task = small_task(streams, balance=0.05)
    before = task.held_out()
    plan = Plan(steps=25, rate=4e-3, warmup=2, shape="stable", floor=0.0, every=1, measured=1000, save_seconds=1e9)
    lines: list[dict[str, float]] = []
    last = run(task, plan, tmp_path, lambda line: lines.append(dict(line)), optimiser)
    assert last["bits_per_byte"] < 0.8 * before["bits_per_byte"]
    assert abs(last["bits_per_byte_int4"] / last["bits_per_byte"] - 1) < 0.1
    assert 1 <= last["tokens_per_pass"] <= 3
    assert last["rate"] < 1e-3 < lines[10]["rate"]
    biases = [module.bias for module in task.network.modules() if isinstance(module, MoE)]
    assert len(biases) == 4 and all(float(bias.abs().max()) > 0.05 for bias in biases)


def test_bits_per_byte_are_of_the_bytes() -> None:
    """A network that holds all tokens for equally likely needs log2(V) bits a token."""
    network = Network(TINY)
    network.embedding.data.zero_()
    ids = np.array(SHIPPED.encode("return self.value\n" * 40), dtype=np.uint16)
    task = SmallTask(
        network,
        Streams(ids, Gaps(ids, np.zeros(len(ids), dtype=np.uint8)), ids),
        SmallPlan(rows=2, time=48, held_out_rows=2),
        SHIPPED,
    )
    size = 48 + 3
    starts = np.linspace(0, len(ids) - size, 2).astype(int)
    written = sum(len(SHIPPED.pieces[i] or b"") for s in starts for i in ids[s + 1 : s + 49])
    assert task.held_out()["bits_per_byte"] == pytest.approx(96 * 15 / written, rel=1e-3)


def test_what_belongs_into_a_gap_counts_more(streams: Path) -> None:
    task, heavy = small_task(streams, gap_share=1.0), small_task(streams, gap_share=1.0, middle_weight=5.0)
    step = next(i for i in range(100) if 0 < int(task.batch(i).hidden[:, 1:].sum()) < 100)
    batch = task.batch(step)
    inside = batch.hidden[:, 1 : 1 + task.plan.time]
    assert inside.any() and not inside.all()
    with torch.no_grad():
        states, _ = task.network.states(batch.ids, task.plan.time, 0, torch.float32)
        logits = task.network.logits(states[0])
        losses = nn.functional.cross_entropy(
            logits.transpose(1, 2), batch.ids[:, 1 : 1 + task.plan.time], reduction="none"
        )
        counts = 1 + 4 * inside.float()
        for one, expected in ((task, losses.mean()), (heavy, (losses * counts).sum() / counts.sum())):
            torch.testing.assert_close(one.loss(batch, 0.0)[1]["loss_0"], expected)


def test_windows_with_hidden_numbers_are_of_the_plain_ones(streams: Path) -> None:
    size = len(open_streams(streams).plain) // 3
    task = small_task(streams, time=size, passkey_share=0.25, gap_share=0.5)
    plain = small_task(streams, time=size, gap_share=0.5)
    (ids, hidden), (others, marked) = task.batch(5), plain.batch(5)
    rows = (ids != others).any(1)
    assert int(rows.sum()) == 1 and hidden[rows].any() and not marked[rows].any()
    assert (hidden == marked)[~rows].all()
    loss, _ = task.loss(task.batch(5), 0.0)
    assert torch.isfinite(loss)


def test_token_losses_are_cross_entropy() -> None:
    state, head = torch.randn(6, 8), torch.randn(11, 8)
    wanted = torch.tensor([0, 10, 3, 3, 5, 7])
    losses, normaliser = token_losses(state, head, wanted)
    torch.testing.assert_close(losses, nn.functional.cross_entropy(state @ head.T, wanted, reduction="none"))
    torch.testing.assert_close(normaliser, (state @ head.T).exp().sum(-1).log())


def test_the_stable_schedule() -> None:
    plan = Plan(steps=100, rate=1.0, warmup=10, shape="stable", cooldown=0.5, floor=0.1)
    rates = [plan.rate_at(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and set(rates[10:50]) == {1.0}
    assert rates[75] == pytest.approx(0.55) and rates[100] == pytest.approx(0.1)
    assert replace(plan, cooldown=0.0).rate_at(99, 100) == 1.0


def test_by_the_door(streams: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    common = ["small", "--data", str(streams), "--rows", "2", "--time", "48", "--device", "cpu", "--steps", "2"]
    result = runner.invoke(command, [*common, "--out", str(tmp_path / "a"), "--shape", "tiny", "--cooldown", "0"])
    assert result.exit_code == 0, result.output
    assert "2,395,232 parameters" in result.output
    tokenizer: Tokenizer = model.load_tokenizer(tmp_path / "a/model")
    assert tokenizer.vocab_size == 32_768
    result = runner.invoke(
        command, [*common, "--out", str(tmp_path / "b"), "--from", str(tmp_path / "a/model"), "--whole"]
    )
    assert result.exit_code == 0, result.output
    assert "<svg" in (tmp_path / "b/curves.svg").read_text()
    order = "suffix-first" if SHIPPED.suffix_first else "prefix-first"
    assert stored.load(tmp_path / "b/whole").shape == replace(TINY, gap_order=order)
    about = json.loads((tmp_path / "b/model/config.json").read_text())["about"]
    assert about["steps"] == "2" and len(about["data"]) == 64
    result = runner.invoke(command, [*common, "--out", str(tmp_path / "c"), "--shape", "huge"])
    assert "no shape is called 'huge'" in str(result.exception)
    shares = ["--gap-share", "0.8", "--passkey-share", "0.3"]
    result = runner.invoke(command, [*common, "--out", str(tmp_path / "d"), "--shape", "tiny", *shares])
    assert "shares of one whole" in str(result.exception)


@pytest.mark.parametrize(("order", "text"), [("suffix-first", "ba = "), ("prefix-first", "a = b")])
def test_the_order_of_the_data_is_the_order_of_the_model(order: str, text: str, site: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> None:
        result = CliRunner().invoke(command, list(arguments))
        assert result.exit_code == 0, result.output

    data, out = str(tmp_path / "data"), tmp_path / "out"
    run("streams", "--out", data, "--site", str(site), "--workers", "1", "--gap-order", order)
    run("small", "--data", data, "--out", str(out), "--shape", "tiny", "--steps", "1", "--rows", "2", "--time", "48",
        "--device", "cpu")  # fmt: skip
    tokenizer = model.load_tokenizer(out / "model")
    assert tokenizer.suffix_first == (order == "suffix-first")
    ids = prompt.build(tokenizer, "a = ", "b", 50).ids
    assert tokenizer.fim and ids[0] == tokenizer.fim.prefix and tokenizer.fim.suffix in ids
    assert tokenizer.decode(ids) == text
    assert stored.load(out / "model").shape.gap_order == order


def test_one_run_trains_on_and_measures_before_and_after(streams: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    text = "\n\n".join(code(f"long{i}", i) for i in range(60))[:4000].rpartition("\n\n")[0] + "\n"
    distribution(site, "networkx", "License-Expression: MIT", {f"networkx/m{i}.py": text for i in range(2)})

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, [*arguments, "--rows", "2", "--time", "48", "--device", "cpu"])
        assert result.exit_code == 0, result.output
        return result.output

    tiny = ["--shape", "tiny", "--steps", "1"]
    run("small", "--data", str(streams), "--out", str(tmp_path / "a"), *tiny)
    where = ["--from", str(tmp_path / "a/model"), "--data", str(streams), "--site", str(site), "--files", "2"]
    said = run("further", "--out", str(tmp_path / "b"), *where, "--steps", "2", "--longest", "2048", "--tries", "1")
    before, after = (json.loads((tmp_path / f"b/{when}.json").read_text()) for when in ("before", "after"))
    assert set(before) >= {"bits_per_byte", "lines_exact", "gaps", "tokens_per_pass"}
    assert set(after) == {*before, "grouped", "plain"} and list(after["plain"]["passkeys"]) == ["2048"]
    assert before["bits_per_byte"] != after["bits_per_byte"]
    assert json.loads(said.splitlines()[-1]) == {"before": before, "after": after}
    row = next(line for line in said.splitlines() if line.startswith("bits_per_byte"))
    assert row.split() == ["bits_per_byte", str(before["bits_per_byte"]), str(after["bits_per_byte"])]
    assert sum(count for _, count in after["gaps"].values()) == 6


def test_lines_are_counted_where_every_token_is_the_best() -> None:
    """A model that knows one text and takes every other token for likely."""
    text = "import os\n\n\nclass A:\n    def f(self):\n        return os\n"
    ids = SHIPPED.encode(text)
    wrong = ids.index(SHIPPED.encode("        return os")[-1], len(ids) - 4)

    def score(row: torch.Tensor) -> torch.Tensor:
        assert row.tolist() == [ids[:-1]]
        logits = torch.zeros(len(ids) - 1, SHIPPED.vocab_size)
        for place, token in enumerate(ids[1:]):
            logits[place, token if place + 1 != wrong else 0] = 30.0
        return logits

    found = lines.measure(score, SHIPPED, [text, ""])
    # "import os" has nothing before it, two lines are blank, the last one has a wrong token.
    assert (found.texts, found.lines, found.exact) == (1, 3, 2)
    assert found.bytes == len(text) - len(SHIPPED.pieces[ids[0]] or b"")
    assert found.bits == pytest.approx(30 / np.log(2), rel=0.2)
