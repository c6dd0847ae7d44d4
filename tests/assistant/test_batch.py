"""`viable batch` by its door: what is read, what is written, and what a second run does."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.completion import Request
from tests.assistant.batch_process import answer
from tests.assistant.fake import FakeSession, Ran, Shell
from tests.assistant.test_complete import patched

ROOT = Path(__file__).resolve().parents[2]
ROWS: list[Any] = [
    {"task_id": "HumanEval/0", "prompt": "def add(a, b):\n", "entry_point": "add", "test": "…"},
    {"task_id": 7, "prefix": "x = ", "suffix": "\nprint(x)\n"},
    {"prefix": "without = ", "suffix": "\n"},
    {"task_id": "bad type", "prompt": 3},
    "not JSON",
    {"custom_id": "c1", "method": "POST", "url": "/v1/completions", "body": {"prompt": "def f(", "n": 2, "seed": 5}},
    {"custom_id": "c2", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}},
    {"custom_id": "c3", "method": "POST", "url": "/v1/completions", "body": {"prompt": "", "model": "gpt-4"}},
    {"custom_id": "c4", "method": "POST", "url": "/v1/completions", "body": {"prompt": "", "stop": ["\n"]}},
    {"task_id": "NUL", "prompt": "a\0"},
    {"nothing": "known"},
    [1],
    {"task_id": "same", "prompt": "a = "},
    {"task_id": "same", "prompt": "a = "},
]


class Batch:
    """`viable batch` in a folder of its own."""

    def __init__(self, viable: Shell, folder: Path, session: FakeSession) -> None:
        self.viable = viable
        self.folder = folder
        self.session = session
        self.model = folder / "model.gguf"
        self.model.write_bytes(b"model")
        self.input = folder / "in.jsonl"
        self.output = folder / "out.jsonl"
        self.write(ROWS)

    def write(self, rows: list[Any]) -> None:
        self.input.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n\n")

    def __call__(self, *arguments: Any, output: Path | None = None, inputs: tuple[Any, ...] | None = None) -> Ran:
        names = (self.input,) if inputs is None else inputs
        return self.viable("batch", *names, "-o", output or self.output, "--model", self.model, *arguments)

    def rows(self, path: Path | None = None) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (path or self.output).read_text().splitlines()]


@pytest.fixture
def batch(viable: Shell, tmp_path: Path, session: FakeSession) -> Batch:
    session.answer = answer
    return Batch(viable, tmp_path, session)


COSTS = ("passes", "drafted", "accepted", "fallbacks")
"""What a row says of the way to its answer, which is another one where rows share their passes."""


def timeless(rows: list[dict[str, Any]], but: Sequence[str] = ()) -> str:
    """Rows without the fields that tell the time, and without those of `but`."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(inner) for name, inner in value.items() if name not in ("ms", "created", *but)}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(strip(rows))


def names(rows: list[dict[str, Any]]) -> list[Any]:
    return [row.get("task_id", row.get("custom_id")) for row in rows]


def test_every_row_has_its_answer_in_its_place(batch: Batch) -> None:
    batch.session.answer = lambda request: f"x = {request.seed}\n"
    ran = batch()
    assert ran.code == 3
    rows = batch.rows()
    assert names(rows) == ["HumanEval/0", 7, 3, "bad type", 5, "c1", "c2", "c3", "c4", "NUL", 11, 12, "same", "same"]
    errors = {row["error"]["message"].split(": ", 1)[1] for row in rows if row["error"]}
    assert len(errors) == 8
    assert all(str(batch.input) in row["error"]["message"] for row in rows if row["error"])
    first = f"{batch.input}:4: Expected `str`, got `int` - at `$.prompt`"
    assert f"14 rows: 6 answered, 8 failed (first: {first})" in ran.error
    row = rows[0]
    assert row["completion"] == f"x = {row['seed']}\n"
    assert (row["sample"], row["finish_reason"], row["valid"], row["error"]) == (0, "end", False, None)
    assert row["tokens"] == len(row["completion"])
    assert len({row["key"] for row in rows if "key" in row}) + 4 == len(rows), "two rows share a key"


def test_openai_requests_get_openai_responses(batch: Batch) -> None:
    batch()
    by_id = {row["custom_id"]: row for row in batch.rows() if "custom_id" in row}
    body = by_id["c1"]["response"]["body"]
    assert by_id["c1"]["response"]["status_code"] == 200
    assert by_id["c1"]["error"] is None
    assert body["object"] == "text_completion"
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["choices"][0]["text"] != body["choices"][1]["text"], "each choice has a seed of its own"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    for name, told in (("c2", "/v1/completions is"), ("c3", "'gpt-4' is not the one"), ("c4", "stop is not supported")):
        assert (by_id[name]["response"]["status_code"], by_id[name]["response"]["body"]) == (400, None)
        assert told in by_id[name]["error"]["message"]


def test_a_row_says_how_many_tries_it_is_worth(batch: Batch) -> None:
    batch.session.answer = lambda request: "1\n"
    openai = {"method": "POST", "url": "/v1/completions"}
    batch.write(
        [
            {"task_id": "prompt", "prompt": "x = ", "tries": 3},
            {"task_id": "gap", "prefix": "x = ", "suffix": "\n", "tries": 64},
            {"task_id": "none", "prompt": "x = "},
            {"task_id": "null", "prompt": "y = ", "tries": None},
            {"custom_id": "best", "body": {"prompt": "x = ", "best_of": 4}, **openai},
            {"custom_id": "one", "body": {"prompt": "x = ", "best_of": 1, "n": 2}, **openai},
            *({"task_id": str(bad), "prompt": "x = ", "tries": bad} for bad in (0, 65, "4", 1.5, True)),
            {"custom_id": "several", "body": {"prompt": "x = ", "best_of": 4, "n": 2}, **openai},
            {"custom_id": "zero", "body": {"prompt": "x = ", "best_of": 0}, **openai},
        ]
    )
    assert batch("--tries", 2).code == 3
    assert batch.session.settings.tries == 2
    assert [request.tries for request in batch.session.requests] == [3, 64, None, None, 4, 1, 1]
    failed = [row["error"]["message"] for row in batch.rows() if row["error"]]
    assert len(failed) == 7
    assert all("tries" in message or "best_of" in message for message in failed), failed
    answered = [row for row in batch.rows() if not row["error"] and "task_id" in row]
    assert {row["tries"] for row in answered} == {1}, "what the session says"
    keys = {row["key"] for row in answered}
    batch("--tries", 3, output=batch.folder / "other.jsonl")
    others = {row["key"] for row in batch.rows(batch.folder / "other.jsonl") if not row["error"] and "task_id" in row}
    assert len(keys & others) == 2, "answers of other numbers of tries are other answers"


def test_a_second_run_has_nothing_to_do(batch: Batch) -> None:
    batch()
    before, opened = batch.output.read_bytes(), batch.session.opened
    ran = batch()
    assert ran.code == 3
    assert "14 of them were there before" in ran.error
    assert batch.output.read_bytes() == before
    assert batch.session.opened == opened, "a model was loaded for nothing"


def test_cut_at_any_byte_and_started_again_it_gives_the_same_rows(batch: Batch) -> None:
    batch()
    whole, rows = batch.output.read_bytes(), timeless(batch.rows())
    line = whole.index(b"\n") + 1
    cuts = {0, 1, 5, 12, line - 1, line, line + 1, len(whole) - 1, *random.Random(0).sample(range(len(whole)), 16)}
    for cut in cuts:
        batch.output.write_bytes(whole[:cut])
        asked = len(batch.session.requests)
        assert batch().code == 3
        assert timeless(batch.rows()) == rows, f"cut at byte {cut}"
        kept = whole[:cut].count(b"\n")
        assert len(batch.session.requests) - asked == sum(
            len(row["response"]["body"]["choices"]) if "custom_id" in row else 1
            for row in batch.rows()[kept:]
            if row["error"] is None or row.get("prompt_tokens")
        ), "a row that was there was answered again"


def test_order_and_shards_do_not_matter(batch: Batch) -> None:
    good = [{"task_id": f"t{i}", "prompt": f"x{i} = "} for i in range(9)] + [{"prefix": "no_id = ", "suffix": ""}]
    batch.write(good)
    batch("--samples", 2, "--temperature", 1)
    whole = batch.rows()
    seeds = {(row["task_id"], row["sample"]): row["seed"] for row in whole}
    assert len(set(seeds.values())) == 20
    parts = [batch.folder / f"part{i}.jsonl" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        batch("--samples", 2, "--temperature", 1, "--shard", f"{i}/3", output=part)
    merged = [row for part in parts for row in batch.rows(part)]
    order = [row["key"] for row in whole]
    assert timeless(sorted(merged, key=lambda row: order.index(row["key"]))) == timeless(whole)
    batch.write(good[::-1][1:])
    other = batch.folder / "other.jsonl"
    batch("--samples", 2, "--temperature", 1, output=other)
    known = {row["key"]: row for row in whole}
    assert timeless(batch.rows(other)) == timeless([known[row["key"]] for row in batch.rows(other)])


def test_the_cache_is_forgotten_between_rows_and_kept_between_samples(batch: Batch) -> None:
    batch.write([{"task_id": i, "prompt": "x = "} for i in range(3)])
    batch("--samples", 4, "--temperature", 1)
    assert len(batch.session.requests) == 12
    assert batch.session.forgotten == 3


def test_what_decides_an_answer_makes_it_anew_and_the_old_one_is_kept(batch: Batch) -> None:
    rows = [{"task_id": f"t{i}", "prompt": f"x{i} = "} for i in range(4)]
    batch.write(rows)
    batch("--seed", 1)
    before = batch.rows()
    rows[1]["prompt"] = "changed = "
    batch.write(rows)
    ran = batch("--seed", 1)
    assert len(batch.session.requests) == 5, "only the changed row is answered"
    assert "1 rows of other prompts, models or parameters are now in" in ran.err
    after = batch.rows()
    assert names(after) == ["t0", "t1", "t2", "t3"]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]
    assert batch.rows(batch.folder / "out.jsonl.stale") == [before[1]]
    for change in (["--temperature", "1"], ["--seed", "2"], ["--no-adapter"], ["--max-tokens", "9"]):
        count = len(batch.session.requests)
        batch(*change)
        assert len(batch.session.requests) == count + 4, change
    batch.model.write_bytes(b"other")
    batch("--max-tokens", "9")
    assert len(batch.session.requests) == 5 + 4 * 5, "another model"
    batch("--max-tokens", "9", "--device", "cpu")
    assert len(batch.session.requests) == 5 + 4 * 5, "the device decides nothing"


def test_failed_rows_are_done_again_on_request_and_keep_their_place(batch: Batch) -> None:
    batch.write([{"task_id": f"t{i}", "prompt": f"x{i} = "} for i in range(5)])
    fails = True

    def sometimes(request: Request) -> str:
        if fails and request.gap.left in ("x1 = ", "x3 = "):
            raise RuntimeError("out of\nmemory")
        return "1\n"

    batch.session.answer = sometimes
    ran = batch()
    assert ran.code == 3
    assert "2 failed (first: t1: out of memory);" in ran.error
    failures = [row["error"] for row in batch.rows()]
    assert failures[1] == {"type": "RuntimeError", "message": "out of memory"}
    assert [bool(failure) for failure in failures] == [False, True, False, True, False]
    fails = False
    assert batch().code == 3, "without being asked, a failed row is done"
    assert len(batch.session.requests) == 5
    assert batch("--retry-errors").code == 0
    assert len(batch.session.requests) == 7
    assert names(batch.rows()) == [f"t{i}" for i in range(5)]
    assert not any(row["error"] for row in batch.rows())


def test_a_limit_can_be_raised(batch: Batch) -> None:
    batch.write([{"task_id": i, "prompt": f"x{i} = 1"} for i in range(6)])
    batch("--limit", 2)
    assert names(batch.rows()) == [0, 1]
    batch("--limit", 5)
    assert names(batch.rows()) == [0, 1, 2, 3, 4]
    batch("--limit", 1)
    assert len(batch.rows()) == 5, "what is there stays"
    assert len(batch.session.requests) == 5


def test_gzipped_rows_and_standard_input(batch: Batch) -> None:
    data = batch.input.read_bytes()
    packed = batch.folder / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(data))
    batch(inputs=(packed,))
    piped = batch.folder / "piped.jsonl"
    batch.viable("batch", "-", "-o", piped, "--model", batch.model, stdin=data)
    read, other = timeless(batch.rows()), timeless(batch.rows(piped))
    assert read.replace(str(packed), "") == other.replace("<stdin>", "")
    packed.write_bytes(gzip.compress(data)[:-9])
    ran = batch(inputs=(packed,))
    assert ran.code == 1
    assert ran.error.startswith(f"{packed}: not a whole gzip file")


def test_files_with_marks_are_changed_in_place_or_as_a_patch(batch: Batch) -> None:
    batch.session.answer = lambda request: "1"
    sources = {"a.py": "x = <CURSOR>\r\n", "b.py": "y = 1\n", "c d.py": "if x:\n\tz = <CURSOR>", "e.py": "<CURSOR>" * 2}
    src = batch.folder / "src"
    src.mkdir()
    for name, text in sources.items():
        (src / name).write_bytes(text.encode())
    (src / "bad.py").write_bytes(b"<CURSOR>\xff")
    patch = batch.folder / "all.patch"
    assert batch("--patch", patch, inputs=(src,)).code == 3
    assert {name: (src / name).read_bytes().decode() for name in sources} == sources, "a patch changes nothing"
    parts = ("\n" + patch.read_bytes().decode()).split("\n--- ")[1:]
    filled = [sources[name].replace("<CURSOR>", "1") for name in ("a.py", "c d.py")]
    assert [
        patched(sources[name], f"--- {p}".removesuffix("\n") + "\n")
        for name, p in zip(("a.py", "c d.py"), parts, strict=True)
    ] == filled
    count = len(batch.session.requests)
    ran = batch("--in-place", inputs=(f"{src}/*.py",))
    assert ran.code == 3
    assert len(batch.session.requests) == count, "what the patch's run has answered is not asked again"
    assert [(src / name).read_bytes().decode() for name in ("a.py", "c d.py")] == filled
    messages = {Path(row["task_id"]).name: row["error"] for row in batch.rows() if row["error"]}
    assert set(messages) == {"bad.py", "e.py"}
    assert "2 <CURSOR> marks" in messages["e.py"]["message"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--shard", "0/2"], "--shard takes I/N"),
        (["--shard", "3/2"], "--shard takes I/N"),
        (["--samples", "0"], "must be at least 1"),
        (["--limit", "0"], "must be at least 1"),
        (["--in-place", "--samples", "2"], "so --samples 1"),
        (["--in-place", "--patch", "none/all.patch"], "exclude each other"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_what_makes_no_sense_is_misuse(batch: Batch, arguments: list[str], told: str) -> None:
    ran = batch(*arguments)
    assert ran.code == 2
    assert told in ran.error
    assert {path.name for path in batch.folder.iterdir()} == {"in.jsonl", "model.gguf"}, "something was left behind"


def test_files_that_are_not_ours_are_left_alone(batch: Batch) -> None:
    assert "cannot be OUT.jsonl as well" in batch(output=batch.input).error
    for text in ("notes\n", '{"task_id": "a", "completion": ""}\n', "no newline"):
        batch.output.write_text(text)
        for option in ([], ["--overwrite"]):
            ran = batch(*option)
            assert (ran.code, ran.error) == (2, f"{batch.output}: is no output of `viable batch`; it is left as it is")
            assert batch.output.read_text() == text
    assert batch(inputs=(batch.folder / "none.jsonl",)).code == 2


def test_an_output_that_is_no_file_is_not_read(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device may never end; a lock and a manifest beside it would be left in its folder.

    A socket stands for it: who may write anything, and writes a file whole, would put a file in a device's place.
    """
    monkeypatch.chdir(batch.folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # the whole name may be too long for one
        for path in ("socket", batch.folder):
            ran = batch(output=Path(path))
            assert (ran.code, ran.error) == (2, f"{path}: is no regular file, so answers cannot be kept in it")
    assert {path.name for path in batch.folder.iterdir()} == {"in.jsonl", "model.gguf", "socket"}


def test_an_output_that_cannot_be_made_is_not_said_to_hold_rows(batch: Batch) -> None:
    """Nobody, root included, may make a file in /sys."""
    ran = batch(output=Path("/sys/out.jsonl"))
    assert ran.code == 1
    assert re.fullmatch(
        "/sys/out.jsonl: not written: (permission denied|read-only file system|.* not permitted)", ran.error
    )


@pytest.mark.e2e
def test_a_manifest_that_does_not_fit_is_named(batch: Batch) -> None:
    """A limit on the size of files stands for a full disk: neither failure says by itself which file it was."""
    code = "import resource, sys; from assistant.__main__ import run; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))"
    arguments = ["batch", batch.input, "-o", batch.output, "--model", batch.model]
    command = [sys.executable, "-Bc", f"{code}; sys.exit(run(sys.argv[1:]))", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, f"viable: {batch.output}.manifest.json: not written: file too large\n")


def test_overwrite_starts_anew(batch: Batch) -> None:
    batch()
    count = len(batch.session.requests)
    batch("--overwrite")
    assert len(batch.session.requests) == 2 * count


def test_a_full_disk_loses_no_whole_row(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    room = 1000

    def write(descriptor: int, data: Any) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(descriptor, bytes(data)[: min(room, 300)])
        room -= count
        return count

    batch.write([{"task_id": i, "prompt": f"x{i} = 1"} for i in range(9)])
    with monkeypatch.context() as patch:
        patch.setattr("assistant.batch.journal.os.write", write)
        ran = batch()
    assert ran.code == 1
    assert ran.error == f"{batch.output}: no space left on device; its whole rows are kept"
    kept = batch.rows()
    assert 0 < len(kept) < 9
    batch()
    assert names(batch.rows()) == list(range(9))
    assert timeless(batch.rows()[: len(kept)]) == timeless(kept)


def test_the_manifest_says_what_the_run_was(batch: Batch) -> None:
    batch.session.answer = lambda request: "1"
    batch("--seed", 4)
    manifest = json.loads((batch.folder / "out.jsonl.manifest.json").read_text())
    assert (manifest["rows"], manifest["answered"], manifest["failed"]) == (14, 6, 8)
    assert manifest["settings"]["seed"] == 4
    assert manifest["finished"] >= manifest["started"]
