"""A batch that is killed again and again ends with the rows of one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.assistant.test_batch import COSTS, timeless
from tests.tiny import write_tiny_gguf

KILLS = 20
ROOT = Path(__file__).resolve().parents[2]


def command(program: str, folder: Path, model: Path, output: str) -> list[str]:
    options = ["--samples", "2", "--temperature", "0.8", "--max-tokens", "6", "--context", "200"]
    names = [str(folder / "in.jsonl"), "-o", str(folder / output), "--model", str(model)]
    return [sys.executable, "-m", program, "batch", *names, *options]


def start(arguments: list[str], row_ms: float = 0) -> subprocess.Popen[bytes]:
    environment = os.environ | {"BATCH_ROW_MS": str(row_ms)}
    return subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finished(arguments: list[str]) -> str:
    process = start(arguments)
    _, err = process.communicate()
    assert process.returncode in (0, 3), err.decode()
    return err.decode()


def kill_often(arguments: list[str], output: Path, rows: int, pause: float, row_ms: float) -> None:
    """Kill the run `KILLS` times without warning, each time when it has written at least one more row."""
    chance = random.Random(0)
    for _ in range(KILLS):
        before = output.stat().st_size if output.exists() else 0
        process = start(arguments, row_ms)
        while process.poll() is None and (not output.exists() or output.stat().st_size <= before):
            time.sleep(0.002)
        time.sleep(chance.random() * pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"
        if chance.random() < 0.5 and output.stat().st_size > before + 1:
            # A power cut may lose a part of what was being written.
            os.truncate(output, chance.randrange(before + 1, output.stat().st_size))
    assert output.read_bytes().count(b"\n") < rows


@pytest.mark.e2e
def test_killed_twenty_times_it_gives_the_same_rows(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"no model is needed")
    compare(tmp_path, model, "tests.assistant.batch_process", tasks=90, pause=0.02, row_ms=5)


@pytest.mark.e2e
@pytest.mark.slow
def test_killed_twenty_times_rows_of_a_model_at_once_are_the_same_rows(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path, kind="Q8_0")
    compare(tmp_path, model, "assistant", tasks=40, pause=0.05, row_ms=0, at_once="3")


def compare(
    folder: Path, model: Path, program: str, *, tasks: int, pause: float, row_ms: float, at_once: str = "1"
) -> None:
    """at_once: rows of the run that is killed; the one that is left alone answers one after the other."""
    rows = [{"task_id": f"t{i}", "prompt": f"value_{i} = ", "suffix": "\nprint(1)\n" * (i % 2)} for i in range(tasks)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "not JSON\n")
    finished([*command(program, folder, model, "calm.jsonl"), "--at-once", "1"])
    killed = folder / "killed.jsonl"
    arguments = [*command(program, folder, model, killed.name), "--at-once", at_once]
    kill_often(arguments, killed, 2 * tasks + 2, pause, row_ms)
    finished(arguments)
    calm, other = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (folder / "calm.jsonl", killed)
    )
    assert len(calm) == 2 * tasks + 2
    but = COSTS if at_once != "1" else ()
    assert timeless(other, but) == timeless(calm, but)
    left = {path.name for path in folder.iterdir()} - {model.name}
    assert left == {
        "in.jsonl",
        *(f"{name}.jsonl{end}" for name in ("calm", "killed") for end in ("", ".manifest.json")),
    }
