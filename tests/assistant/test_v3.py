"""The article's interface: what it promises, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.errors import UsageProblem, ViableError
from assistant.v3 import QUANTISATIONS, V3Model
from tests.model.test_deepseek import CASES, write
from tests.tiny import write_tiny_safetensors
from validators import PythonValidator


@pytest.fixture(autouse=True)
def _nothing_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the small model comes with this copy decides nothing here."""
    monkeypatch.setattr("assistant.v3.shipped", dict)


def begun(text: str = "def f(x):\n    ", **values: Any) -> V3Model:
    made = V3Model(**values)
    made.begin(text)
    return made


def test_as_the_article_writes_it() -> None:
    model = V3Model(num_experts=16, experts_per_group=4, quantization="int4")
    model.set_routing_strategy(threshold=0.7, fallback="dense")
    tokens = model.generate_next_batch(3)
    assert len(tokens) == 3 and model.validate_generation(tokens) in (True, False)
    assert model.text == "" and not model.trained  # nothing is accepted yet


@pytest.mark.parametrize("quantization", QUANTISATIONS)
def test_a_batch_is_what_comes_token_by_token(quantization: str) -> None:
    model = begun(quantization=quantization, seed=3)
    batch = model.generate_next_batch(4)
    assert batch == model.generate_next_batch(4)  # asking changes nothing
    one_by_one: list[int] = []
    validator = PythonValidator()
    for token in batch:
        assert model.generate_next_batch(1) == [token]
        if not model.validate_generation([token]):
            break
        model.accept([token])
        one_by_one.append(token)
    assert one_by_one == batch[: len(one_by_one)]
    assert validator.check(validator.start(""), model.text).accepted == len(model.text)


def test_single_tokens_are_valid_until_the_text_may_end() -> None:
    model = begun("x = (")
    for _ in range(30):
        token = model.generate_next_token()
        if not token:
            break
        assert model.validate_generation(token)
        model.accept(token)
    validator = PythonValidator()
    assert validator.check(validator.start(""), model.text).accepted == len(model.text)


def test_unfinished_programs_are_valid_and_broken_ones_are_not() -> None:
    model = begun("def f(x):\n")
    assert model.validate_generation(list(b"    return (x +"))
    assert not model.validate_generation(list(b"    return )"))
    with pytest.raises(UsageProblem, match="no program begins so"):
        model.accept(list(b"    return )"))
    assert model.text == "def f(x):\n"


def test_the_strategy_decides_how_many_experts_work() -> None:
    used = {}
    for threshold, fallback in ((0.0, "topk"), (0.05, "topk"), (1.0, "dense")):
        model = begun(quantization="none")
        model.set_routing_strategy(threshold, fallback)
        model.generate_next_batch(8)
        used[threshold] = model.active_experts
    assert used[0.0] == 4 and used[0.05] < 4 and used[1.0] == 16


def test_a_checkpoint_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path, *CASES["v3"])
    (tmp_path / "tokenizer.json").write_bytes((write_tiny_safetensors(tmp_path) / "tokenizer.json").read_bytes())
    with pytest.raises(ViableError, match="16 experts in groups of 4, not 8 in groups of 2"):
        V3Model(8, 2, path=tmp_path)
    with pytest.raises(ViableError, match="no experts"):
        V3Model(path=tmp_path / "tiny")
    assert V3Model(path=tmp_path).trained


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_experts": 10}, "10 experts do not make groups of 4"),
        ({"num_experts": 0}, "0 experts"),
        ({"quantization": "int3"}, "'int3'"),
        ({"path": Path("/nowhere/at/all")}, "no such file or folder"),
    ],
)
def test_what_makes_no_sense_is_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ViableError, match=words):
        V3Model(**values)


def test_strategies_and_batches_that_make_no_sense() -> None:
    model = begun()
    with pytest.raises(UsageProblem, match="threshold of 2"):
        model.set_routing_strategy(2.0)
    with pytest.raises(UsageProblem, match="'luck'"):
        model.set_routing_strategy(0.5, "luck")
    with pytest.raises(UsageProblem, match="a batch of 0"):
        model.generate_next_batch(0)
