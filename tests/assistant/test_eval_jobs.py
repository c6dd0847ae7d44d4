"""`viable eval fim --jobs`: several processes answer as one does, and end as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import write_tiny_gguf
from tests.train.test_selection import distribution

OURS = Path(__file__).parents[2] / "assistant"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    files = [path for path in sorted(OURS.glob("*.py")) if 2500 < path.stat().st_size < 6000]
    texts = {f"networkx/{path.name}": path.read_text(encoding="utf-8") for path in files}
    distribution(tmp_path / "site", "NetworkX", "License-Expression: MIT", texts)
    path = write_tiny_gguf(tmp_path)
    of = [sys.executable, "-m", "assistant", "eval", "fim", "--site", str(tmp_path / "site"), "--model", str(path)]
    return [*of, "--files", "4", "--max-tokens", "12"]


def last_line(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for result in found["fim"]:
        assert result.pop("ms") > 0
    return found


def test_several_processes_answer_as_one_does(command: list[str]) -> None:
    found = last_line(*command)
    assert [(result["shape"], result["gaps"]) for result in found["fim"]] == [
        ("line end", 4),
        ("lines", 4),
        ("span", 4),
    ]
    assert last_line(*command, "--jobs", "3") == found


def test_what_fails_in_a_process_is_told_in_one_line(command: list[str]) -> None:
    one, two = (
        subprocess.run([*command, "--jobs", jobs, "--model", "nowhere.gguf"], capture_output=True, text=True)
        for jobs in "12"
    )
    assert (two.returncode, two.stdout, two.stderr) == (one.returncode, "", one.stderr)
    assert one.returncode and "nowhere.gguf" in one.stderr and one.stderr.count("\n") == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_reaches_all_of_them(command: list[str], jobs: str) -> None:
    """As a terminal sends it: to every process of the group."""
    long = [*command, "--jobs", jobs, "--max-tokens", "900", "--files", "99", "--beginnings", "--tries", "4"]
    with subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stderr
        said = process.stderr.readline()  # how far they are
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert b" gaps, " in said
    assert process.returncode == 130
    filled = sum(result["gaps"] for result in json.loads(out.splitlines()[-1])["fim"])
    assert 0 < filled < 4 * 99, "what was filled is told"
    assert err.splitlines()[-1] == b"viable: interrupted" and b"Traceback" not in err


def test_ctrl_c_while_processes_begin(command: list[str]) -> None:
    with subprocess.Popen(
        [*command, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        # Both, and the one that watches over what they share.
        while process.poll() is None and len(children.read_text().split()) < 3:
            time.sleep(0.01)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"viable: interrupted\n")
