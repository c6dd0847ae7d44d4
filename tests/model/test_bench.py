"""The benchmark's own arithmetic, on a tiny model."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import model
from assistant.bench import decode_cpu
from assistant.bench.corpus import Source
from assistant.bench.processes import peak_of
from assistant.errors import ViableError
from tests.tiny import write_tiny_gguf


def test_score_is_the_loss_of_every_token_but_the_first(tmp_path: Path) -> None:
    decoder = model.load(write_tiny_gguf(tmp_path))
    window = torch.randint(256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    loss, chosen = decode_cpu.score(decoder, window)
    logits = decoder(torch.tensor([window]))[0]
    expected = -sum(float(logits[i].log_softmax(-1)[window[i + 1]]) for i in range(149))
    assert math.isclose(loss, expected, rel_tol=1e-4)
    assert chosen == logits[:-1].argmax(-1).tolist()


def test_windows_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_cpu, "PROMPT", 4)
    files = [Source("short", "abc"), Source("long", "abcdefgh"), Source("longer", "x" * 99)]
    assert decode_cpu.windows_of(files, lambda text: list(text.encode()), 5) == [list(b"abcd"), list(b"xxxx")]


@pytest.mark.e2e
def test_it_measures_and_ends_in_a_line_of_json(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path, kind="Q8_0", context=2048)
    options = ["--tokens", "4", "--rounds", "1", "--threads", "1", "--no-llama", "--no-quality"]
    run = CliRunner().invoke(decode_cpu.command, [str(path), *options], catch_exceptions=False)
    record = json.loads(run.output.splitlines()[-1])
    ours = record["ours"]
    assert record["bench"] == "decode_cpu" and record["model"] == "tiny.gguf"
    assert ours["tokens_per_second"] == pytest.approx(1000 / ours["ms_1_row"])
    assert ours["rows_3_over_1"] == pytest.approx(ours["ms_3_rows"] / ours["ms_1_row"])
    assert ours["mb_peak"] > 50


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_the_memory_of_a_command_is_its_own() -> None:
    """Linux lets a child begin with what its parent has held; here that is more than the command takes."""
    held = b"\1" * 400_000_000
    idle = peak_of([sys.executable, "-S", "-c", "print('not a figure')"])
    busy = peak_of([sys.executable, "-S", "-c", "x = b'1' * 150_000_000"])
    assert len(held) / 1e6 > 250 > busy > 150 > 60 > idle > 3
    with pytest.raises(ViableError, match="no such option"):
        peak_of([sys.executable, "-S", "-c", "raise SystemExit('no such option')"])
