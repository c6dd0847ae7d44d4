"""How probable tokens are, as every scorer tells it: held to the decoder without a cache, over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import model
from model.engine import Fixed, Greedy, LookupDraft, NoDraft, Order, Sampled, Scorer, Step, decode
from model.engine.graph_scorer import GraphScorer
from model.engine.scorer import CachedScorer
from model.engine.shared import SharedPasses, SharedScorer
from model.errors import ModelUsageError
from model.lora import NoAdapter
from tests.engine.toy import Brackets
from tests.tiny import write_tiny_gguf
from validators import AcceptAll

CAPACITY = 200
CLOSE = 2e-4
"""Of sums over some dozens of tokens in fp32, computed in other pieces."""

SCORERS: dict[str, Callable[[model.Decoder], Scorer]] = {
    "cached": lambda decoder: CachedScorer(decoder, CAPACITY),
    "graph": lambda decoder: GraphScorer(decoder, CAPACITY),
    "shared": lambda decoder: SharedScorer(SharedPasses(decoder, NoAdapter()), CAPACITY),
}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory, device: str) -> model.Decoder:
    path = write_tiny_gguf(tmp_path_factory.mktemp("told"), width=96, heads=3, groups=1, layers=2, feed_forward=72)
    return model.load(path, device=device, dtype="float32")


@pytest.fixture(params=list(SCORERS))
def scorer(request: pytest.FixtureRequest, decoder: model.Decoder) -> Scorer:
    if request.param == "shared" and decoder.device.type != "cpu":
        pytest.skip("texts share their passes on a processor alone")
    return SCORERS[request.param](decoder)


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 250, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def expected(decoder: model.Decoder, text: list[int], begin: int) -> list[float]:
    """Of the tokens of `text` from `begin` on, each behind all before it."""
    logits = decoder(torch.tensor([text[:-1]], device=decoder.device))[0].float()
    rows = logits.log_softmax(-1)[begin - 1 :]
    return [float(row[token]) for row, token in zip(rows, text[begin:], strict=True)]


@pytest.mark.parametrize("order", [Greedy(), Sampled(0.6, 0.9, seed=3)], ids=["greedy", "sampled"])
def test_tokens_are_as_probable_as_without_a_cache(decoder: model.Decoder, scorer: Scorer, order: Order) -> None:
    text, told, at = ids(105), list[float](), 0
    for count in (1, 3, 33, 1, 32, 34):
        rows = scorer.extend(text[at : at + count], order)
        told += [row.log_probability(token) for row, token in zip(rows, text[at + 1 :], strict=False)]
        assert sorted(rows[-1]) == list(range(decoder.config.vocab_size)), "a row can be asked both"
        at += count
    assert told == pytest.approx(expected(decoder, text, 1), abs=CLOSE)


def test_a_row_sums_to_one(decoder: model.Decoder, scorer: Scorer) -> None:
    (row,) = scorer.extend([7], Greedy())
    assert sum(torch.tensor([row.log_probability(i) for i in row]).exp()) == pytest.approx(1, abs=1e-4)


def test_what_is_told_costs_no_pass(decoder: model.Decoder) -> None:
    plain = CachedScorer(decoder, CAPACITY)
    for row in plain.extend(ids(9), Greedy()):
        row.log_probability(5)
    assert plain.passes == 1


def test_a_row_of_the_gpu_is_asked_before_the_next_pass(decoder: model.Decoder) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    (row,) = scorer.extend([7], Greedy())
    scorer.extend([8], Greedy())
    with pytest.raises(ModelUsageError, match="overwritten"):
        row.log_probability(3)


def run(scorer: Scorer, prompt: list[int], order: Order, width: int, end: int | None, **more: object) -> Iterator[Step]:
    arguments: dict[str, object] = {
        "validator": AcceptAll(),
        "state": None,
        "drafter": LookupDraft(shortest=1) if width else NoDraft(),
        "end_ids": () if end is None else (end,),
        "max_tokens": 24,
        "window": Fixed(width),
    }
    return decode(prompt, scorer=scorer, order=order, **(arguments | more))


@pytest.mark.parametrize("width", [0, 5])
@pytest.mark.parametrize("order", [Greedy(), Sampled(0.9, seed=8)], ids=["greedy", "sampled"])
def test_steps_tell_it_of_their_ids_and_of_the_end(
    decoder: model.Decoder, scorer: Scorer, order: Order, width: int
) -> None:
    prompt = ids(10) * 3
    whole = [token for step in run(CachedScorer(decoder, CAPACITY), prompt, order, 0, None) for token in step.ids]
    end = whole[-1]
    text, told = list[int](), list[float]()
    for step in run(scorer, prompt, order, width, end):
        text += step.ids
        told += step.log_probabilities()
    assert step.stop == "end"
    assert text == whole[: whole.index(end)]
    assert told == pytest.approx(expected(decoder, [*prompt, *text, end], len(prompt)), abs=CLOSE)


def test_rules_and_what_is_forced_change_nothing_about_it(decoder: model.Decoder, scorer: Scorer) -> None:
    """Many of these tokens are not the model's first choice, and some nobody asked it for."""
    prompt, text, told, forced = ids(12), list[int](), list[float](), 0
    rules = {"validator": Brackets(), "state": 0, "forced": lambda depth: (2, 4, 6) if depth == 3 else ()}
    for step in run(scorer, prompt, Greedy(), 3, None, **rules):
        text += step.ids
        told += step.log_probabilities()
        forced += step.forced
    assert forced >= 3, "nothing was forced, so nothing was shown"
    assert len(text) == len(told) == 24
    assert told == pytest.approx(expected(decoder, prompt + text, len(prompt)), abs=CLOSE)


def test_where_nothing_was_chosen_nothing_is_told(decoder: model.Decoder, scorer: Scorer) -> None:
    (step,) = run(scorer, [1, 2, 3], Greedy(), 3, None, interrupt=lambda: "cancelled")
    assert step.log_probabilities() == []
    (step,) = run(scorer, [1, 3], Greedy(), 3, None, validator=Refusing())
    assert (step.stop, step.log_probabilities()) == ("dead end", [])


class Refusing(AcceptAll):
    """Lets nothing through."""

    def accept_block(self, state: object, ids: object) -> tuple[int, object]:
        return 0, state
