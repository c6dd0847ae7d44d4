"""`viable bench validator` at its smallest: every part gives rows, and the last line is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assistant.bench import corpus
from assistant.bench import validator as bench

TINY = bench.Sizes(1, 4, 20, 4, 1, (1_000, 4_000))


@pytest.fixture(autouse=True)
def _no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIABLE_HOME", str(tmp_path))


@pytest.mark.parametrize("part", bench.PARTS)
def test_each_part_measures(part: str) -> None:
    rows = list(bench.run(TINY, seed=3, only=[part]))
    assert rows
    for row in rows:
        assert row.what and row.ours
        assert row.met is None or row.figures
        json.dumps(row.figures)


def test_the_last_line_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    result = CliRunner().invoke(bench.command, ["--part", "agreement", "--seed", "5"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.output.splitlines()[-1])
    assert record["bench"] == "validator" and record["seed"] == 5
    assert record["figures"][0]["of"] == TINY.texts


def test_texts_are_drawn_from_the_seed() -> None:
    sources = corpus.standard_library(3, 9)
    assert sources == corpus.standard_library(3, 9) != corpus.standard_library(3, 10)
    assert list(corpus.cuts(sources, 5, 1)) == list(corpus.cuts(sources, 5, 1)) != list(corpus.cuts(sources, 5, 2))
    never = list(corpus.bad_blocks(sources, 4, 1, lambda left, text: len(left) > 10))
    assert never == list(corpus.bad_blocks(sources, 4, 1, lambda left, text: len(left) > 10))


@pytest.mark.parametrize("writing", list(corpus.WRITINGS))
def test_other_writings_are_the_same_program(writing: str) -> None:
    """They differ from the file, parse, and nothing was dropped for not parsing."""
    sources = corpus.standard_library(10, 2)
    changed = corpus.written(sources, writing)
    assert len(changed) == len(sources)
    if writing != "as it is":
        assert sum(a.text != b.text for a, b in zip(sources, changed, strict=True)) >= 5


def test_pieces_and_gaps_join_to_the_text() -> None:
    [source] = corpus.site_packages(1, 4)
    assert "".join(corpus.pieces(source.text)) == source.text
    for cut in corpus.cuts([source], 20, 6):
        assert cut.left + cut.middle + cut.right == source.text
