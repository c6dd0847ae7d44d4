"""What runs on a GPU in one go: its parts' limits, what becomes of those that fail, and its table."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from assistant.bench import gpu_day
from assistant.bench.gpu_day import QUICK, RIGHT, Part, command, table, together

ROOT = Path(__file__).parents[2]


def test_a_part_that_fails_or_hangs_loses_no_other() -> None:
    printing = "import json; print('hello'); print(json.dumps({'us_per_pass': {'1': 5.5}, 'bandwidth': 1e12}))"
    some = [
        Part("quick", ("-c", printing), 60),
        Part("hangs", ("-c", "import time; print('at work', flush=True); time.sleep(60)"), 3),
        Part("wrong", ("-c", "print('why'); raise SystemExit(3)"), 60),
    ]
    begin = time.monotonic()
    parts = dict(together(some, begin + 100)) | dict(together([Part("late", ("-c", ""), 60)], begin + 5))
    assert list(parts) == ["quick", "hangs", "wrong", "late"]
    how = [part["how"] for part in parts.values()]
    assert how == ["ok", "TIMED OUT", "FAILED (3)", "left out: no time"]
    lines = "\n".join(table(parts))
    assert "1: 5.5" in lines and "| why" in lines and "| at work" in lines


def test_ops_stand_in_the_table_with_their_share() -> None:
    figures = {"ops": {"3": {"route": [2.0, 1.0]}}, "bandwidth": 1e12}
    (_, first, _) = table({"small": {"how": "ok", "seconds": 1, "figures": figures, "printed": ""}})
    assert first.split() == ["3", "row(s)", "route", "2.00", "µs", "1.000", "MB", "50", "%"]


def test_without_a_gpu_it_says_so_in_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = CliRunner().invoke(command, [])
    assert done.exit_code == 1 and done.output.count("\n") == 1 and "no CUDA device" in done.output


def test_results_are_in_the_file_after_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some card")
    monkeypatch.setattr(gpu_day, "RIGHT", (Part("a", ("-c", "print({})"), 60), Part("b", ("-c", "1/0"), 60)))
    monkeypatch.setattr(gpu_day, "QUICK", (Part("c", ("-c", ""), 60),))
    done = CliRunner().invoke(command, ["--out", str(tmp_path / "found.json")])
    assert done.exit_code == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [part["how"] for part in found["parts"].values()] == ["ok", "FAILED (1)", "ok"]


def test_what_parts_run_is_there() -> None:
    for part in (*RIGHT, *QUICK):
        for argument in part.arguments:
            assert not argument.startswith("tests/") or (ROOT / argument).exists()
            assert not argument.startswith("assistant.") or (ROOT / f"{argument.replace('.', '/')}.py").exists()
