"""What decides a row's key besides its own text: the weights that are loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from assistant.batch.keys import companions, jobs, model_hash
from assistant.batch.rows import read_tasks
from assistant.settings import Settings
from assistant.store import ModelRef

MINE = "a" * 64


def saved(path: Path, value: float, base: str) -> Path:
    save_file({"x": torch.tensor([value])}, path, metadata={"about": json.dumps({"base": base})})
    return path


def test_what_was_trained_for_the_model_counts_and_what_was_trained_for_another_does_not(tmp_path: Path) -> None:
    adapter = saved(tmp_path / "adapter.safetensors", 1.0, MINE)
    saved(tmp_path / "other.safetensors", 1.0, "b" * 64)
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    found = ModelRef(tmp_path / "model.gguf", "m", MINE)
    assert companions(found, tmp_path) == {"adapter.safetensors": hashlib.sha256(adapter.read_bytes()).hexdigest()}
    assert companions(ModelRef(tmp_path, "own", None), tmp_path) == {}


def test_another_adapter_makes_other_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"task_id": "a", "prompt": "x = "}\n')
    found = ModelRef(tmp_path / "model.gguf", "m", MINE)

    def key() -> str:
        weights = [model_hash(found), *companions(found, tmp_path).values()]
        [job] = jobs(read_tasks([str(rows)]), 1, Settings(), weights)
        return job.key

    keys = [key()]
    for value in (1.0, 2.0, 1.0):
        saved(tmp_path / "adapter.safetensors", value, MINE)
        keys.append(key())
    assert keys[1] == keys[3]
    assert len(set(keys)) == 3


def test_the_projects_own_weights_are_found_without_torch() -> None:
    code = (
        "import sys, json; from assistant.batch.keys import companions; from assistant.store import ModelRef\n"
        "from assistant.store.catalogue import DEFAULT, known; from pathlib import Path\n"
        "made = companions(ModelRef(Path('.'), DEFAULT, known()[DEFAULT].sha256))\n"
        "print(json.dumps([sorted(made), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["fim-adapter.safetensors", "mtp.safetensors"], False]
