"""Rows that share their passes by `viable batch`'s door: the answers of one row at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from assistant.completion import Request
from assistant.settings import DEFAULT_MODEL
from tests.assistant.test_batch import COSTS, ROWS, Batch, batch, names, timeless  # noqa: F401  (a fixture)
from tests.assistant.test_batch_kill import finished
from tests.tiny import write_tiny_gguf

GAPS: list[dict[str, Any]] = [
    {"task_id": "mean", "prefix": "def mean(values):\n    return ", "suffix": "\n\n\nprint(mean([1, 2]))\n"},
    {"task_id": "open", "prompt": 'def area(width, height):\n    """Of a rectangle."""\n'},
    {"task_id": "names", "prefix": "names = [", "suffix": "]\nfor name in names:\n    print(name)\n"},
    {"task_id": "long", "prefix": "total = 0\n" * 30 + "if total", "suffix": "\n    total = 1\n"},
    {"task_id": "tried", "prefix": "first = ", "suffix": "\nprint(first)\n", "tries": 3},
    {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "import ", "n": 2, "seed": 5}},
]


def command(folder: Path, model: Path | str, output: str, *options: object) -> list[str]:
    words = ["batch", folder / "in.jsonl", "-o", folder / output, "--model", model, "--context", 256]
    return [sys.executable, "-m", "assistant", *map(str, [*words, "--max-tokens", 8, *options])]


def write(folder: Path, rows: list[Any]) -> None:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (folder / "in.jsonl").write_text(text)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.e2e
def test_rows_at_once_are_rows_one_by_one(tmp_path: Path) -> None:
    model = write_tiny_gguf(tmp_path, kind="Q8_0")
    write(tmp_path, [*GAPS, *ROWS])
    for output, *options in (("1.jsonl", 1), ("99.jsonl", 99), ("auto.jsonl",)):
        at_once = [word for count in options for word in ("--at-once", count)]
        finished(command(tmp_path, model, output, *at_once, "--samples", 2, "--temperature", 1))
    one_by_one = timeless(read(tmp_path / "1.jsonl"), COSTS)
    assert "leaves no room" not in one_by_one, "rows that are refused say nothing"
    for output in ("99.jsonl", "auto.jsonl"):
        assert timeless(read(tmp_path / output), COSTS) == one_by_one, output


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.slow
def test_rows_at_once_of_the_default_model(tmp_path: Path, default_model: Path) -> None:
    # By its name, so that the adapter is there, which only some of the rows want, and the drafting modules.
    write(tmp_path, GAPS)
    for count in (1, 4):
        options = ("--at-once", count, "--max-tokens", 24, "--offline")
        finished(command(tmp_path, DEFAULT_MODEL, f"{count}.jsonl", *options))
    assert timeless(read(tmp_path / "4.jsonl"), COSTS) == timeless(read(tmp_path / "1.jsonl"), COSTS)


def test_a_row_that_fails_stops_no_other(batch: Batch) -> None:  # noqa: F811
    batch.write([{"task_id": f"t{i}", "prompt": f"x{i} = "} for i in range(7)])

    def sometimes(request: Request) -> str:
        if request.gap.left == "x3 = ":
            raise RuntimeError("out of memory")
        return "1\n"

    batch.session.answer = sometimes
    assert batch("--at-once", 3).code == 3
    assert names(batch.rows()) == [f"t{i}" for i in range(7)]
    assert [row["task_id"] for row in batch.rows() if row["error"]] == ["t3"]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_few_rows_and_none_that_can_be_answered(batch: Batch, count: int) -> None:  # noqa: F811
    batch.write([{"task_id": "one", "prompt": "x = "}])
    assert batch("--at-once", count).code == 0
    batch.write(["not JSON", {"nothing": 1}])
    assert batch("--at-once", count, "--overwrite").code == 3
    assert len(batch.rows()) == 2 and batch.session.opened == 1, "a model was loaded for nothing"
    batch.input.write_text("")
    assert batch("--at-once", count).code == 2


def test_samples_of_a_row_follow_one_another_where_they_can(batch: Batch) -> None:  # noqa: F811
    batch.write([{"task_id": i, "prompt": f"x{i} = "} for i in range(3)])
    batch("--at-once", 3, "--samples", 4, "--temperature", 1)
    assert batch.session.forgotten == 3, "a prompt was computed more than once"
    assert names(batch.rows()) == [0] * 4 + [1] * 4 + [2] * 4


def test_at_once_must_be_possible(batch: Batch) -> None:  # noqa: F811
    ran = batch("--at-once", 0)
    assert ran.code == 2 and "--at-once must be at least 1" in ran.error
