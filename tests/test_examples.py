"""Every example runs and its own assertions hold; here with a tiny random model in place of a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import write_tiny_gguf

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `viable.toml` names a tiny model."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "viable.toml").write_text(f"model = {str(write_tiny_gguf(folder))!r}\n", encoding="utf-8")
    return folder


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.e2e
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(example: Path, workplace: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, example], cwd=workplace, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 60
