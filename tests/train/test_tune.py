"""Two-stage fine-tuning: which rows learn, which files measure, the command by its door."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import model
from assistant.cli.finetune import command as finetune
from model.companions import FOLDER
from model.small import stored
from model.small.network import Network
from model.small.shape import TINY
from model.train import tune
from model.train.small import SmallPlan
from model.train.streams import open_streams
from tests.train.test_selection import code

SHIPPED = model.load_tokenizer(FOLDER / "viable-small")


class TestFineTuning:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for i in range(24):
            (tmp_path / "p" / f"d{i % 3}").mkdir(parents=True, exist_ok=True)
            (tmp_path / "p" / f"d{i % 3}" / f"m{i}.py").write_text(code(f"name{i}", i * 31))
        (tmp_path / "p" / ".hidden").mkdir()
        (tmp_path / "p" / ".hidden" / "x.py").write_text(code("hidden"))
        return tmp_path / "p"

    def test_files_are_in_one_part_each(self, project: Path) -> None:
        files = tune.collect(project, 0.3)
        names = [d.path for d in files.trained + files.kept_back]
        assert len(set(names)) == len(names) == 24 and 2 < len(files.kept_back) < 15
        (project / "d0" / "new.py").write_text(code("new"))
        later = tune.collect(project, 0.3)
        assert {d.path for d in files.kept_back} <= {d.path for d in later.kept_back}

    @pytest.mark.parametrize("stage", ["attention", "positions"])
    def test_a_stage_changes_its_own_rows_and_no_other(self, streams: Path, tmp_path: Path, stage: str) -> None:
        network = Network(TINY)
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        plan = SmallPlan(rows=2, time=48, held_out_rows=2, round_from=0.0, balance=0.0, draft_share=0.0)
        tune.tune(network, open_streams(streams), SHIPPED, plan, 3, tmp_path, lambda line: None,
                  stages=[tune.Stage(stage, 1e-3, 1.0)])  # fmt: skip
        shape = TINY
        for name, after in network.named_parameters():
            same = (after == before[name]).flatten(1).all(1) if after.dim() > 1 else (after == before[name])
            turned = torch.zeros(len(after), dtype=torch.bool)
            if name.endswith("attention.query.weight"):
                turned = torch.cat([torch.zeros(shape.nope), torch.ones(shape.rope)]).bool().repeat(shape.heads)
            elif name.endswith("attention.down.weight"):
                turned = torch.cat([torch.zeros(shape.latent), torch.ones(shape.rope)]).bool()
            turned &= name.startswith("blocks.")
            wanted = (
                turned
                if stage == "positions"
                else torch.full_like(turned, name.startswith("blocks.") and ".attention." in name and after.dim() > 1)
            )
            assert (same == ~wanted).all(), name

    def test_a_stage_before_them_changes_all_but_the_modules(self, streams: Path, tmp_path: Path) -> None:
        network = Network(TINY)
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        plan = SmallPlan(rows=2, time=48, held_out_rows=2, round_from=0.0, balance=0.0, draft_share=0.0)
        stages = tune.behind(tune.Stage("everything", 1e-3, 0.5), tune.STAGES)
        assert sum(stage.share for stage in stages) == pytest.approx(1.0)
        tune.tune(network, open_streams(streams), SHIPPED, plan, 6, tmp_path, lambda line: None, stages)
        same = {name for name, p in network.named_parameters() if torch.equal(p, before[name])}
        fixed = {name for name in before if name.startswith("modules_behind.") or name.endswith("feed_forward.bias")}
        assert same == fixed

    def test_by_the_door(self, project: Path, tmp_path: Path) -> None:
        stored.save(Network(replace(TINY, vocabulary=32_768)), tmp_path / "m", {})
        (tmp_path / "m" / "tokenizer.json").write_bytes((FOLDER / "viable-small" / "tokenizer.json").read_bytes())
        arguments = [str(project), "--out", str(tmp_path / "o"), "--from", str(tmp_path / "m"), "--steps", "3"]
        more = ["--rows", "1", "--time", "48", "--device", "cpu", "--rates", "3e-3", "1e-3"]
        result = CliRunner().invoke(finetune, [*arguments, *more])
        assert result.exit_code == 0, result.output
        figures = json.loads((tmp_path / "o/figures.json").read_text())
        assert figures["after"]["bits_per_byte"] < figures["before"]["bits_per_byte"]
        assert stored.load(tmp_path / "o/model").shape == TINY
        result = CliRunner().invoke(finetune, [str(tmp_path / "m"), *arguments[1:]])
        assert "0 Python files to train on" in str(result.exception)
