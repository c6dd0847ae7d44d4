"""`viable batch --in-place`: a file that is filled has no mark any more, and keeps its row all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.assistant.batch_process import answer
from tests.assistant.fake import FakeSession, Ran, Shell
from tests.assistant.test_batch import timeless

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "a.py": "x = 1\n<CURSOR>",
    "b.py": "y = 1\n",
    "c.py": "if x:\r\n    y = 1\r\n<CURSOR>z = 3\r\n",
    "d.py": "\ufeff<CURSOR>\n",
    "e.py": "# é\r<CURSOR>\nx = 1\n",
    "f.py": "<CURSOR>",
}
MARKED = [f"src/{name}" for name, text in SOURCES.items() if "<CURSOR>" in text]


class InPlace:
    """`viable batch src -o out.jsonl --in-place` in a folder of its own, where names are the same in every run."""

    def __init__(self, viable: Shell, folder: Path, session: FakeSession) -> None:
        self.viable = viable
        self.folder = folder
        self.session = session
        self.output = folder / "out.jsonl"
        (folder / "model.gguf").write_bytes(b"model")
        self.restore()

    def restore(self) -> None:
        """As if nothing had been run."""
        (self.folder / "src").mkdir(exist_ok=True)
        for name, text in SOURCES.items():
            (self.folder / "src" / name).write_bytes(text.encode())
        for path in self.folder.glob("out*"):
            path.unlink()

    def __call__(self, *arguments: Any, output: str = "out.jsonl") -> Ran:
        return self.viable("batch", "src", "-o", output, "--model", "model.gguf", "--in-place", *arguments)

    def rows(self, output: str = "out.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / output).read_text().splitlines()]

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / "src").iterdir())}

    def stale(self) -> list[dict[str, Any]]:
        return self.rows("out.jsonl.stale") if (self.folder / "out.jsonl.stale").exists() else []


@pytest.fixture
def batch(viable: Shell, tmp_path: Path, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> InPlace:
    monkeypatch.chdir(tmp_path)
    session.answer = lambda request: answer(request) or "pass\n"
    return InPlace(viable, tmp_path, session)


def test_a_run_in_parts_gives_the_rows_and_files_of_a_whole_one(batch: InPlace) -> None:
    assert batch().code == 0
    rows, files = timeless(batch.rows()), batch.files()
    assert [row["task_id"] for row in batch.rows()] == MARKED
    assert not any(b"<CURSOR>" in data for data in files.values())
    batch.restore()
    for limit in (1, 1, 3, 9):
        assert batch("--limit", limit).code == 0
        assert len(batch.rows()) == min(limit, len(MARKED))
    assert (timeless(batch.rows()), batch.files(), batch.stale()) == (rows, files, [])
    opened = batch.session.opened
    ran = batch()
    assert (ran.code, batch.session.opened) == (0, opened)
    assert "5 of them were there before" in ran.error
    assert (timeless(batch.rows()), batch.files(), batch.stale()) == (rows, files, [])


def test_what_is_filled_in_may_read_like_a_mark(batch: InPlace) -> None:
    batch.session.answer = lambda request: "x = '<CURSOR>'\n"
    batch()
    rows, files = batch.rows(), batch.files()
    assert batch().code == 0
    assert (batch.rows(), batch.files()) == (rows, files)


def test_a_file_that_the_user_changed_is_left_and_its_row_is_not_shown(batch: InPlace) -> None:
    batch()
    before = batch.rows()
    changed, marked = batch.folder / "src/a.py", batch.folder / "src/f.py"
    changed.write_bytes(changed.read_bytes() + b"\n# mine\n")
    marked.write_bytes(marked.read_bytes() + b"<CURSOR>")
    mine, asked = changed.read_bytes(), len(batch.session.requests)
    batch()
    assert changed.read_bytes() == mine
    assert len(batch.session.requests) == asked + 1, "only the new mark is answered"
    assert [row["task_id"] for row in batch.rows()] == MARKED[1:]
    assert batch.rows()[:-1] == before[1:-1]
    assert batch.stale() == [before[0], before[-1]]


def test_what_other_parameters_filled_in_is_not_passed_off(batch: InPlace) -> None:
    batch()
    before, files = batch.output.read_bytes(), batch.files()
    ran = batch("--seed", 1)
    assert (ran.code, ran.error) == (2, "nothing to do: no rows, and no file that says <CURSOR>")
    assert (batch.output.read_bytes(), batch.files()) == (before, files)
    (batch.folder / "src/a.py").write_text("<CURSOR>")
    assert batch("--seed", 1).code == 0
    assert [row["task_id"] for row in batch.rows()] == MARKED[:1]
    assert len(batch.stale()) == len(MARKED)


def test_shards_share_the_files_however_many_are_filled(batch: InPlace) -> None:
    for _ in range(2):
        for part in (1, 2, 3):
            assert batch("--shard", f"{part}/3", output=f"out{part}").code == 0
        told = [row["task_id"] for part in (1, 2, 3) for row in batch.rows(f"out{part}")]
        assert sorted(told) == MARKED
    assert not any(b"<CURSOR>" in data for data in batch.files().values())


def test_a_file_that_cannot_be_written_is_told_before_a_model_is_loaded(
    batch: InPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    for refused, told in (
        ("src/c.py", "src/c.py: not written: it is"),
        ("src", "src/a.py: not written: its folder is"),
    ):
        path = batch.folder / refused
        monkeypatch.setattr("assistant.changes.os.access", lambda name, mode, p=path: name != p and real(name, mode))
        ran = batch()
        assert (ran.code, ran.error) == (1, f"{told} read-only")
    assert not batch.session.opened
    assert not batch.output.exists()


@pytest.mark.e2e
def test_killed_and_started_again_it_gives_the_same_rows(batch: InPlace) -> None:
    batch.session.answer = answer
    code = batch().code
    rows, files = timeless(batch.rows()), batch.files()
    batch.restore()
    program = [sys.executable, "-m", "tests.assistant.batch_process", "batch", "src", "-o", "out.jsonl"]
    ran = subprocess.run(
        [*program, "--model", "model.gguf", "--in-place"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "BATCH_ROWS": "3"},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL
    assert [row["task_id"] for row in batch.rows()] == MARKED[:3]
    assert [name for name, data in batch.files().items() if b"<CURSOR>" in data] == ["e.py", "f.py"]
    # And as if it had been killed after the row was written, before its file was.
    (batch.folder / MARKED[2]).write_bytes(SOURCES["d.py"].encode())
    assert batch().code == code
    assert (timeless(batch.rows()), batch.files(), batch.stale()) == (rows, files, [])
