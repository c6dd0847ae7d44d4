"""Measurements in processes of their own, so that none finds what another has left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from assistant.errors import ViableError

SMALL_PARENT = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code != 0)
"""


def measured_by(module: str, arguments: Sequence[str]) -> Any:
    """What `python -m module` says in the JSON of its last line. ViableError where it fails."""
    run = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise ViableError(f"a measurement failed: {run.stderr.strip().splitlines()[-1:]}")
    return json.loads(run.stdout.splitlines()[-1])


def peak_of(command: Sequence[str], environment: Mapping[str, str] = os.environ) -> float:
    """Megabytes that a command takes at most, whatever this process holds.

    Linux counts what a process held before `exec` as its own, and there it is still a copy of the process that started
    it. One that holds nothing therefore starts the command and says what its child took. ViableError where that fails.
    """
    run = subprocess.run(
        [sys.executable, "-S", "-c", SMALL_PARENT, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise ViableError(f"{' '.join(command)} failed: {run.stderr.strip().splitlines()[-1:]}")
    return megabytes(int(run.stdout))


def megabytes(maxrss: int) -> float:
    """What the system counts in kilobytes of 1024, and macOS in bytes."""
    return maxrss / 1e6 if sys.platform == "darwin" else maxrss * 1024 / 1e6
