"""`viable bench validator` at its smallest: every part gives rows, and the last line is JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from assistant.bench import anchors, corpus, validator_outputs, validator_parsers
from assistant.bench import validator as bench
from assistant.errors import UsageProblem

TINY = bench.Sizes(1, 4, 20, 0, 4, 1, (1_000, 4_000), (1, 1))


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


def test_masks_are_measured_at_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = tuple(bytes([value]) for value in range(256))
    tokens = bench.Tokens("bytes", list, (), pieces, lambda text: list(text.encode()))
    monkeypatch.setattr(bench, "model_tokens", lambda: tokens)
    rows = {row.what: row for row in bench.run(TINY, seed=3, only=["masks"])}
    numbers = [int(str(row.figures.get("number", 0))) for row in rows.values()]
    assert numbers[0] == numbers[1] + numbers[2] and numbers[3]
    assert all("forced" in row.figures for row in list(rows.values())[4:])


def test_the_last_line_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    result = CliRunner().invoke(bench.command, ["--part", "agreement", "--seed", "5"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.output.splitlines()[-1])
    assert record["bench"] == "validator" and record["seed"] == 5
    assert record["figures"][0]["of"] == TINY.texts


def test_texts_of_a_model_are_judged_by_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    file = tmp_path / "texts.jsonl"
    texts = [("def f(", "a):\n    return a a"), ("x = [", "1, 2]\n"), ("x = =", "1"), ("", "if x\n")]
    file.write_text("".join(json.dumps({"prefix": left, "text": text, "n": 1}) + "\n" for left, text in texts))
    result = CliRunner().invoke(bench.command, ["--part", "agreement", "--texts", str(file)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output.splitlines()[-1])["figures"][0]["of"] == 4
    assert "disagreements on the texts given" in result.output and "0 of 4" in result.output
    file.write_text('{"text": "x"}\n[1]\n')
    with pytest.raises(UsageProblem, match="line 2"):
        bench.command.main(["--texts", str(file)], standalone_mode=False)
    with pytest.raises(UsageProblem, match="3/2"):
        bench.command.main(["--shard", "3/2"], standalone_mode=False)


@pytest.mark.slow
def test_the_small_model_writes_behind_real_code() -> None:
    sources = corpus.standard_library(2, 3)
    texts = validator_outputs.written(sources, 2, 5)
    assert texts == validator_outputs.written(sources, 2, 5) and all(each.text for each in texts)
    assert all(any(source.text.startswith(each.prefix) for source in sources) for each in texts)


def test_other_parsers_are_measured_beside_ours() -> None:
    """CPython, told that more may come, refuses names and strings that are not finished; ours does not."""
    bad = [corpus.Block("x = ", ")"), corpus.Block("def f(", "1")]
    found = validator_parsers.against(validator_parsers.Cpython(), [corpus.Source("a", "x = 'a b c d e'\n" * 9)], bad)
    assert found.refused.ours == 0 < found.refused.theirs < found.refused.of == len(found.ours) == len(found.theirs)
    assert found.accepted == (0, 0, 2)


def test_the_grammar_for_other_engines_has_a_rule_for_every_name() -> None:
    grammar = anchors.lark_grammar((3, 11))
    defined = set(re.findall(r"^(\w+):", grammar, re.MULTILINE))
    rules = "".join(line for line in grammar.splitlines(True) if line.startswith(("r_", "in_", "start")))
    assert set(re.findall(r"\b(?:r|in)_\w+", re.sub(r'"[^"]*"', "", rules))) <= defined
    assert '"except" "*"' in grammar and "$" not in re.sub(r"/.*/", "", grammar)
    assert '"except" "*"' not in anchors.lark_grammar((3, 10))


def test_shards_are_all_files() -> None:
    sources = corpus.standard_library(5, 1)
    parts = [bench.Shard(number, 3).of_files(sources) for number in range(3)]
    assert sorted(source for part in parts for source in part) == sorted(sources)


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
