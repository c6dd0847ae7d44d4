"""What `viable eval` says of a model's parts, on a tiny small model of four bits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import model
from assistant.cli.eval import command
from assistant.eval import architecture, claims, rounding
from model.companions import FOLDER
from model.small import stored
from model.small.network import Network
from model.small.shape import TINY
from model.train import lines
from tests.train.test_selection import code, distribution

CONTEXT = replace(TINY, vocabulary=32_768)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "m"
    stored.save(Network(CONTEXT), path, {})
    (path / "tokenizer.json").write_bytes((FOLDER / "viable-small" / "tokenizer.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site")
    files = {f"networkx/m{i}.py": code(f"name{i}", i * 31) + code(f"more{i}", i * 17) for i in range(3)}
    distribution(path, "networkx", "License-Expression: MIT", files)
    return path


def asked(folder: Path, site: Path, *arguments: str, files: int = 2) -> Any:
    words = [*arguments, "--model", str(folder), "--site", str(site), "--files", str(files)]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.output.splitlines()[-1])


def test_source(folder: Path, site: Path) -> None:
    found = asked(folder, site, "source", "--dtype", "float32")
    assert found["source"]["texts"] == 2 and 2 < found["bits_per_byte"] < 12


def test_gaps(folder: Path, site: Path) -> None:
    found = asked(folder, site, "gaps", "--dtype", "float32")
    assert {shape: count for shape, (_, count) in found["gaps"].items()} == {"line end": 2, "lines": 2, "span": 2}


def test_a_gap_is_filled_where_every_token_is_the_best() -> None:
    answer = [4, 5, 6]

    def score(row: torch.Tensor) -> torch.Tensor:
        following = dict(zip([3, 4, 5], answer, strict=True))
        return torch.nn.functional.one_hot(torch.tensor([following.get(i, 0) for i in row[0].tolist()]), 9).float()

    assert lines.fills(score, [1, 2, 3], answer)
    assert not lines.fills(score, [1, 2, 3], [4, 6, 6]) and not lines.fills(score, [1, 2], answer)


def test_rounding_is_what_a_model_is_beside_itself(folder: Path, site: Path, tmp_path: Path) -> None:
    same, few = (asked(folder, site, "rounding", "--dtype", dtype)["rounding"] for dtype in ("float32", "int8"))
    assert same["positions"] == few["positions"] > 20
    assert abs(same["divergence"]) < 1e-6 and same["same"] == 1
    assert same["bits_per_byte"] == same["exact_bits_per_byte"] == few["exact_bits_per_byte"]
    assert 0 < few["divergence"] < 0.1 and few["bits_per_byte"] != few["exact_bits_per_byte"]
    row = {
        "task_id": "a/0",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "test": "",
        "canonical_solution": 20 * "    x += 1\n",
    }
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    written = asked(folder, site, "rounding", "--problems", str(tmp_path / "p.jsonl"), "--tokens", "50")
    assert written["rounding"]["positions"] == 41


def test_divergence_is_the_one_that_is_written_down() -> None:
    class Letters:
        pieces = (b"a", b"b")

        def encode(self, text: str) -> list[int]:
            return [int(letter == "b") for letter in text]

    def of(share: float) -> lines.Score:
        return lambda row: torch.tensor([1 - share, share]).log().expand(row.shape[1], 2)

    letters: Any = Letters()  # of a tokenizer, what is needed here
    found = rounding.apart(of(0.25), of(0.5), letters, ["a" * 12, "ab" * 6, "short"], 12)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert found.positions == 6 and found.divergence == pytest.approx(expected, rel=1e-5)
    assert found.same == 1 and found.bits_per_byte == pytest.approx(1)  # of equal ones the first is the best
    assert found.exact_bits_per_byte == pytest.approx((4 * math.log2(1 / 0.75) + 2 * 2) / 6, rel=1e-5)


def test_routing_counts_experts(folder: Path, site: Path, tmp_path: Path) -> None:
    found = asked(folder, site, "routing", "--dtype", "float32", "--plot", str(tmp_path / "r.svg"), files=1)
    by_name = {one["strategy"]: one for one in found["routing"]}
    assert by_name["as trained"]["active"] == 2.0 and by_name["all experts"]["share"] == 1.0
    shares = [by_name[f"threshold {t}, dense"]["share"] for t in architecture.THRESHOLDS]
    assert shares == sorted(shares)
    assert all(by_name[f"threshold {t}, top-k"]["active"] <= 2.0 for t in architecture.THRESHOLDS)
    assert (tmp_path / "r.svg").read_text().count("<circle") == 12


def test_context_with_and_without_grouped_positions(folder: Path, site: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"grouped_positions": {"window": 64, "factor": 8}}))
    found = asked(folder, site, "context", "--longest", "2048", "--tries", "1")
    one, other = found["context"]
    assert (one["name"], other["name"]) == ("grouped", "plain")
    assert set(one["passkeys"]) == {"2048"} and one["losses"] != other["losses"]


def test_a_number_is_hidden_where_it_is_said_to_be() -> None:
    tokenizer = model.load_tokenizer(FOLDER / "viable-small")
    filler = "value = compute(value)\n" * 400
    for place in (0.0, 0.5, 0.99):
        prompt, key = architecture.passkey(filler, 700, place, Random(1), tokenizer)
        text, number = tokenizer.decode(prompt), tokenizer.decode(key)
        assert abs(len(prompt) - 700) < 10 and number.isdigit() and len(number) == 5
        assert text.count(number) == 1 and text.endswith('assert PASSKEY == "')
        assert abs(text.index(number) / len(text) - place) < 0.1


def test_the_cache_of_latents_is_smaller() -> None:
    sizes = {}
    for name, shape in (("mla", TINY), ("gqa", replace(TINY, attention="gqa", feed_forward="dense", depth=0))):
        from model.config import from_config_json
        from model.decoder import Decoder

        sizes[name] = architecture.cache_bytes(Decoder(from_config_json(replace(shape, vocabulary=300).config_json())))
    # latent 32 and two rotary keys of 16 against 2 heads of 32 + 16 + 32; two groups of 32 + 32.
    assert sizes["mla"] == {"kept": 2 * 2 * 64, "all heads": 2 * 2 * 2 * 80}
    assert sizes["gqa"]["kept"] == 2 * 2 * (2 * 64 + 64)


def test_claims_are_well_formed_and_say_how() -> None:
    found = claims.stored()
    assert found and all(one.claim and one.article and one.ours and one.how for one in found)
    result = CliRunner().invoke(command, ["claims", "--stored"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.output.splitlines()[-1])["claims"]) == len(found)


ARTICLE = ("2.3 ×", "−41 %", "+58 %", "−67 %", "in 5.3 s", "18,000 tokens", "93 %", "−62 %", "99.2 %", "+15 %")


def test_every_figure_of_the_article_has_a_row(folder: Path) -> None:
    found = [*claims.stored(), *claims.live(folder)]
    said = "\n".join(f"{one.claim} {one.article}" for one in found)
    assert [figure for figure in ARTICLE if figure not in said] == []


def test_claims_measured_now(folder: Path) -> None:
    found = list(claims.live(folder))
    assert len(found) == 4 and all(one.where == "now, here" for one in found)
