"""The model that comes with Viable: what is shipped is whole, small, and answers without a download."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import model
from assistant.cli.complete import command as complete
from assistant.eval import architecture
from assistant.store import SMALL
from assistant.store.shipped import shipped
from model.loaders.drafting import load_drafts
from model.small import stored
from model.train import lines

FOLDER = shipped()[SMALL]


def test_it_is_small_and_says_where_it_comes_from() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 32_000_000
    about = json.loads((FOLDER / "config.json").read_text())["about"]
    manifest = json.loads((FOLDER.parent / "manifest-further.json").read_text())
    assert about["data"] == manifest["sha256"]


def test_the_decoder_is_the_network_that_was_trained() -> None:
    network = stored.load(FOLDER)
    assert network.parameters_used() == (51_592_096, 29_632_128)
    decoder = model.load(FOLDER, "cpu", "float32")
    ids = torch.tensor([model.load_tokenizer(FOLDER).encode("def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n")])
    with torch.no_grad():
        states, _ = network.states(torch.nn.functional.pad(ids, (0, 2)), ids.shape[1], 1, torch.float32)
        ours, theirs = network.logits(states[0]), decoder(ids)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    assert load_drafts(FOLDER, decoder).config.depth == 2
    assert decoder.config.context_length == 32_768
    sizes = architecture.cache_bytes(decoder)
    # With the second rotary key of grouped positions: latent 128 and 2 · 32; keys 64 + 32 and values 64 of ten heads.
    assert sizes == {"kept": 2 * 8 * 192, "all heads": 2 * 8 * 10 * 160}


def test_it_has_learnt_something() -> None:
    text = Path(lines.__file__).read_text(encoding="utf-8")
    found = lines.measure(architecture.score(model.load(FOLDER, "cpu")), model.load_tokenizer(FOLDER), [text], 512)
    assert found.bits_per_byte < 1.3


@pytest.mark.parametrize("named", [["--model", SMALL], []], ids=["by name", "automatically"])
def test_it_answers_with_no_model_here_and_the_network_off(
    named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIABLE_HOME", str(tmp_path / "empty"))
    file = tmp_path / "a.py"
    file.write_text("import os\n\n\ndef size(path):\n    return os.path.<CURSOR>\n\n\nprint(size('a'))\n")
    arguments = [str(file), "--offline", "--max-tokens", "16", "--json", *named]
    result = CliRunner().invoke(complete, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    answer = json.loads(result.stdout)
    assert answer["model"] == SMALL and answer["valid"]
    ast.parse(file.read_text().replace("<CURSOR>", answer["text"]))
    assert ("comes with Viable" in result.stderr) == (not named)
