"""`viable bench lsp` at its smallest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assistant.bench.lsp import Figure, command
from tests.tiny import write_tiny_gguf


@pytest.mark.e2e
@pytest.mark.slow
def test_a_small_run_ends_in_a_line_of_json(tmp_path: Path) -> None:
    model = str(write_tiny_gguf(tmp_path))
    sizes = ["--requests", "3", "--positions", "3", "--rounds", "2", "--context", "256"]
    parts = ["--part", "typing", "--part", "memory", "--part", "validity", "--part", "repl"]
    result = CliRunner().invoke(command, ["--model", model, *sizes, *parts], catch_exceptions=False)
    assert result.exit_code == 0
    record = json.loads(result.output.splitlines()[-1])
    figures = {figure["what"]: figure for figure in record["figures"]}
    assert figures["short file, first suggestion of its place"]["n"] == 2
    assert figures["memory growth over 3 requests"]["goal"] == 50
    for each in ("whole", "a line", "a word"):
        assert figures[f"parses after accepting {each}"].get("median", 100) == 100
    assert 0 < figures["REPL: start to prompt"]["median"] < 60
    assert len(result.output.splitlines()) == 2 + len(figures)


def test_figures() -> None:
    figure = Figure("x", tuple(float(value) for value in range(100)), "ms", 20)
    assert (figure.median, figure.p95) == (49.5, 95.0)
    assert "median" not in Figure("nothing was seen", (), "ms").record()
