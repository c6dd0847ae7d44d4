"""The default model on the REPL's path: what people see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("program", ["def is_prime(n):\n", "class Stack:\n    def __init__(self):\n", "import os\n"])
def test_a_piped_program_is_continued_by_a_unit_and_parses(default_model: Path, program: str) -> None:
    command = [sys.executable, "-m", "assistant", "repl", "--model", str(default_model), "--max-tokens", "96"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(program)
    assert done.stdout.strip() != program.strip(), "the model wrote something"
    ast.parse(done.stdout)
