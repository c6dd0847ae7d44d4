"""The measurements of the GPU path, tried on a tiny model: on a CPU the same calls run on the kernels' twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import model
from assistant.bench import decode as bench
from assistant.bench import gpu_profile as profile
from model.engine.graph_scorer import GraphScorer
from tests.tiny import write_tiny_gguf
from validators import AcceptAll


class Accepting(AcceptAll):
    """As a validator of tokens, which has a start."""

    def start(self, prefix: str) -> None:
        return None


@pytest.fixture
def decoder(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> model.Decoder:
    monkeypatch.setattr(bench, "TOKENS", 12)
    monkeypatch.setattr(profile, "PROMPT", 16)
    return model.load(write_tiny_gguf(tmp_path, width=64, heads=2, groups=1), device=device, dtype="float32")


@pytest.fixture
def scorer(decoder: model.Decoder) -> GraphScorer:
    return GraphScorer(decoder, 200)


def test_every_figure_of_decoding_is_measured(scorer: GraphScorer) -> None:
    prompt = bench.Prompt(list(range(20)), "")
    assert bench.passes(scorer, prompt.ids, 3, 1) > 0
    assert len(scorer.ids) == 20 + 3 * 12
    assert bench.first_token(scorer, prompt.ids, 1) > 0
    before = scorer.passes
    assert bench.next_suggestion(scorer, prompt.ids, 1) > 0
    assert scorer.passes == before + 2 * 3  # a prompt, its last token, and one more
    both = [prompt, bench.Prompt(list(range(30)), "")]
    figures, answers = bench.validated(scorer, both, Accepting(), (1.0, 0.5), None)
    assert [len(answer) for answer in answers] == [bench.TOKENS + 1] * 2
    assert figures["validated_tokens_per_second_3_token_fixed_blocks"] > 0
    assert 1 < figures["tokens_per_pass_3_token_fixed_blocks"] < 3
    assert figures["validator_us_per_token_1_token_blocks"] > 0


def test_a_drafter_of_fixed_acceptance_is_right_as_often_as_asked() -> None:
    answer = list(range(1, 5000))
    drafter = bench.FixedAcceptance(answer, (0.7, 0.5), seed=1)
    drafts = [(at, drafter.propose(answer[:at], 2).ids) for at in range(1, 4000)]
    first = sum(ids[0] == answer[at] for at, ids in drafts)
    both = sum(ids == tuple(answer[at : at + 2]) for at, ids in drafts)
    assert abs(first / len(drafts) - 0.7) < 0.03
    assert abs(both / len(drafts) - 0.35) < 0.03


def test_a_pass_is_checked_and_taken_apart(
    decoder: model.Decoder, scorer: GraphScorer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile, "prompt", lambda count: [7 * place % 250 for place in range(count)])
    monkeypatch.setattr(profile, "recorded_time", _called)
    with torch.inference_mode():
        found = profile.check(decoder, scorer)
        assert all(error < 1e-5 for error in found["error_beside_plain"].values())
        ops = profile.ops(scorer, 3)
        assert set(ops) == {"heads", "attend", "finish", "head", "top"}
        assert ops["finish"][1] == pytest.approx((64 * 64 + 3 * 96 * 64) * 4 / 1e6)
        profile.show(ops, 3, rate=4e12)
        tried = profile.other_tiles(scorer, [1])
    assert {op: len(tiles) for op, tiles in tried.items()} == {
        op: len(profile.TRIED[op]) + 1 for op, used_by in profile.USED_BY.items() if used_by in ops
    }
    assert "finish" in capsys.readouterr().out


def _called(call: Callable[[], object]) -> float:
    call()
    return 1.0
