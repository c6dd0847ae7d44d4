"""How the doors come to torch and to a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTING = """
import gc, sys
from assistant.opening import gpu_problem
generations = []
gc.callbacks.append(lambda phase, about: generations.append(about["generation"]))
gpu_problem()
print(sorted(set(generations) - {0}), gc.isenabled(), "torch" in sys.modules)
"""


def test_nothing_old_is_walked_through_while_torch_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] True True\n"
