"""What the shipped completion needs, from the outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assistant.bench.decode_cpu import measure_door
from assistant.settings import DEFAULT_MODEL

MOST = 1200
"""Megabytes, with the adapter and the drafting modules."""


@pytest.mark.model
@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_a_completion_needs_at_most_so_much(default_model: Path) -> None:
    peak = measure_door(DEFAULT_MODEL, threads=1)
    print(f"viable complete takes {peak:.0f} MB at most")
    assert peak <= MOST
