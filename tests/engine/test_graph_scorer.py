"""The scorer of the GPU, held to the plain one: the same rankings, cheaper. On a CPU it runs on the kernels' twins."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

import model
from kernels import backend
from kernels.weights import Eight, Four
from model.engine import Fixed, Greedy, Interrupted, LookupDraft, NoDraft, Order, Sampled, decode
from model.engine.choose import scorer_for
from model.engine.graph_scorer import PREFILLS, WIDTHS, GraphScorer
from model.engine.scorer import CachedScorer
from model.errors import ModelUsageError
from model.gpu import unsupported
from model.layers import Linear
from model.loaders.fill import keep_head
from model.loaders.pick import matrices
from model.quantised import Int8Embedding, Int8Linear, Q8Linear
from tests.tiny import write_tiny_gguf
from validators import AcceptAll

CAPACITY = 300
ORDERS = [Greedy(), Sampled(0.8, 0.9, seed=3)]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory, device: str) -> model.Decoder:
    path = write_tiny_gguf(tmp_path_factory.mktemp("graph"), width=96, heads=3, groups=1, layers=2, feed_forward=72)
    return model.load(path, device=device, dtype="float32")


@pytest.fixture
def scorer(decoder: model.Decoder) -> GraphScorer:
    return GraphScorer(decoder, CAPACITY)


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 250, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("order", ORDERS, ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    "pieces", [(1,), (3, 2), (32, 5, 1), (33, 7), (70, 100, 20), (1, 64, 33), (128, 130, 42)], ids=str
)
def test_ranks_as_the_plain_scorer_does(
    decoder: model.Decoder, scorer: GraphScorer, pieces: tuple[int, ...], order: Order
) -> None:
    plain = CachedScorer(decoder, CAPACITY)
    for seed, count in enumerate(pieces):
        new = ids(count, seed)
        ours, theirs = scorer.extend(new, order), plain.extend(new, order)
        assert len(ours) == len(theirs) == count
        for row in {0, count // 2, count - 1}:
            assert list(islice(ours[row], 20)) == list(islice(theirs[row], 20))
        assert sorted(ours[-1]) == list(range(decoder.config.vocab_size))
    assert scorer.ids == plain.ids
    assert scorer.passes == len(pieces)


@pytest.mark.parametrize("width", [0, 2, 31])
@pytest.mark.parametrize("order", ORDERS, ids=["greedy", "sampled"])
def test_blocks_decode_to_what_single_tokens_decode_to(decoder: model.Decoder, order: Order, width: int) -> None:
    prompt = ids(10) + ids(4) + ids(10)
    texts = []
    for scorer, drafter in (
        (CachedScorer(decoder, CAPACITY), NoDraft()),
        (GraphScorer(decoder, CAPACITY), LookupDraft()),
    ):
        steps = decode(
            prompt,
            scorer=scorer,
            validator=AcceptAll(),
            state=None,
            drafter=drafter,
            order=order,
            end_ids=(),
            max_tokens=30,
            window=Fixed(width),
        )
        texts.append([token for step in steps for token in step.ids])
    assert texts[0] == texts[1]


def test_a_kept_prefix_is_not_computed_again(decoder: model.Decoder, scorer: GraphScorer) -> None:
    first = ids(150)
    scorer.extend(first, Greedy())
    scorer.truncate(100)
    assert scorer.ids == first[:100]
    plain = CachedScorer(decoder, CAPACITY)
    plain.extend(first[:100], Greedy())
    for new in ([7], [9, 8], ids(50, 5)):
        ours, theirs = scorer.extend(new, Greedy()), plain.extend(new, Greedy())
        assert [next(iter(row)) for row in ours] == [next(iter(row)) for row in theirs]
    assert scorer.passes == 4


def test_fills_its_cache_to_the_last_position(decoder: model.Decoder, scorer: GraphScorer) -> None:
    plain = CachedScorer(decoder, CAPACITY)
    for count in (CAPACITY - 43, 40, 3):
        ours, theirs = (s.extend(ids(count), Greedy()) for s in (scorer, plain))
    assert [list(islice(row, 5)) for row in ours] == [list(islice(row, 5)) for row in theirs]
    with pytest.raises(ModelUsageError, match="1 tokens after 300"):
        scorer.extend([1], Greedy())


def test_keeps_the_states_of_all_positions_for_drafters(decoder: model.Decoder, scorer: GraphScorer) -> None:
    text = ids(90)
    for piece in (text[:50], text[50:60], text[60:]):
        scorer.extend(piece, Greedy())
    scorer.truncate(70)
    scorer.extend(text[70:73], Greedy())
    with torch.inference_mode():
        expected = decoder.hidden(torch.tensor([text], device=decoder.device))[0].float()
    assert scorer.hidden.shape == (CAPACITY, 96)
    assert float((scorer.hidden[:90] - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("found", ["Triton is not installed", None])
def test_the_choice_of_a_scorer_says_what_is_missing(
    decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    assert isinstance(scorer_for(decoder, 20), CachedScorer if decoder.device.type == "cpu" else GraphScorer)
    monkeypatch.setattr(model.Decoder, "device", torch.device("cuda"))
    monkeypatch.setattr("model.gpu.problem", lambda: found)
    monkeypatch.setattr("model.engine.choose.GraphScorer", _no_room)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (2e8, 4e9))
    with pytest.raises(ModelUsageError, match=found or r"full \(0.2 of 4.0 GB free\)"):
        scorer_for(decoder, 20)


def _no_room(decoder: model.Decoder, capacity: int) -> GraphScorer:
    raise torch.OutOfMemoryError


def test_a_ranking_that_was_overwritten_is_not_handed_out(scorer: GraphScorer) -> None:
    (old,) = scorer.extend([5], Greedy())
    scorer.extend([6], Greedy())
    with pytest.raises(ModelUsageError, match="overwritten"):
        next(iter(old))


def test_an_interrupt_comes_before_the_pass(scorer: GraphScorer) -> None:
    with pytest.raises(Interrupted):
        scorer.extend(ids(50), Greedy(), lambda: "cancelled")
    assert scorer.passes == 0 and scorer.ids == []


def test_warm_records_before_the_first_pass(scorer: GraphScorer) -> None:
    scorer.warm((1, 3))
    assert scorer.passes == 0 and scorer.ids == []
    scorer.extend([1, 2], Greedy())
    with pytest.raises(ModelUsageError, match="before the first pass"):
        scorer.warm()


def test_widths_and_prefills_leave_no_gap() -> None:
    assert list(WIDTHS) == sorted(WIDTHS) and list(PREFILLS) == sorted(PREFILLS)
    assert WIDTHS[-1] < PREFILLS[0]


@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_weights_of_few_bits_give_what_their_modules_give(tmp_path: Path, dtype: str, device: str) -> None:
    path = write_tiny_gguf(tmp_path, width=128, heads=4, groups=2, layers=2, feed_forward=128, tied=True)
    with backend.use("stream"):
        decoder = model.load(path, device=device, dtype=dtype)
    if device == "cpu":  # where the loader keeps the checkpoint's bytes
        assert isinstance(decoder.projection, Int8Linear)
        decoder.embedding = Int8Embedding(decoder.projection.packed.data)
    layers = GraphScorer(decoder, 64)._block.layers
    held = [weight for layer in layers for half in layer for weight, _ in half.reads()]
    few = Four if dtype == "int4" else Eight  # `model.rounding.finer` says which keep eight
    assert [type(weight) for weight in held] == [Eight, few, few, few, Eight, few, Eight, few]
    scorer, plain = GraphScorer(decoder, 64), CachedScorer(decoder, 64)
    for new in (ids(40), ids(3, 1), [5]):
        ours, theirs = scorer.extend(new, Greedy())[-1], plain.extend(new, Greedy())[-1]
    ours, theirs = (ranking._rows.logits(0) if ranking is ours else ranking._rows[0] for ranking in (ours, theirs))
    # The modules round activations to bfloat16 before every product; the block's products do not.
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-2


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_in_the_checkpoints_own_bits_changes_no_bit(tmp_path: Path, tied: bool, device: str) -> None:
    path = write_tiny_gguf(tmp_path, kind="Q8_0", width=96, heads=3, groups=1, layers=2, feed_forward=96, tied=tied)
    plain = model.load(path, device=device, dtype="bfloat16", trainable=True)
    ours = model.load(path, device=device, dtype="bfloat16")
    if device == "cpu":  # where loaders leave it sixteen
        keep_head(ours, matrices(path), ours.device)
    assert isinstance(ours.projection, Q8Linear) and isinstance(plain.projection, Linear)
    assert isinstance(ours.embedding, Int8Embedding) == tied
    held = {name for name, _ in plain.named_parameters()} - {name for name, _ in ours.named_parameters()}
    assert held == ({"embedding.weight"} if tied else {"projection.weight"})  # a tied head has one name
    found = [GraphScorer(decoder, CAPACITY) for decoder in (plain, ours)]
    for new in (ids(3), ids(70, 1), [5], ids(8, 2)):
        theirs, mine = (scorer.extend(new, Greedy())[-1]._rows.logits(0) for scorer in found)
        assert torch.equal(theirs, mine)
    text = torch.tensor([ids(20)], device=device)
    assert torch.equal(plain.embedding(text), ours.embedding(text))
    close = {"rtol": 0.0, "atol": 2e-2}  # one row at a time is added up in another order
    assert torch.allclose(plain(text).float(), ours(text).float(), **close)


def test_says_which_decoders_it_cannot_compute(tmp_path: Path, device: str) -> None:
    narrow = model.load(write_tiny_gguf(tmp_path), device=device, dtype="float32")
    assert "width 16" in (unsupported(narrow) or "")
    with pytest.raises(ModelUsageError, match="heads of width 16"):
        GraphScorer(narrow, 64)
    stored = model.load(write_tiny_gguf(tmp_path, width=64, heads=2, groups=1), dtype="int8")
    assert "format" in (unsupported(stored) or "")


def test_single_tokens_are_under_way_before_they_are_asked_for(decoder: model.Decoder, device: str) -> None:
    """The same rankings, whether the host takes what the device expected or not."""
    plain, ours = CachedScorer(decoder, CAPACITY), GraphScorer(decoder, CAPACITY)
    ours.warm((1,))
    for scorer in (plain, ours):
        scorer.extend(ids(40), Greedy())
    pending = 7
    for step in range(40):
        best = [list(islice(scorer.extend([pending], Greedy())[0], 9)) for scorer in (plain, ours)]
        assert best[0] == best[1]
        if step % 10 == 8:
            length = len(ours.ids) - 3
            for scorer in (plain, ours):
                scorer.truncate(length)
        pending = best[0][step % 7 == 6]  # now and then the second
    assert 20 <= ours.hits < 30
    assert list(ours.ids) == list(plain.ids)
    for scorer in (plain, ours):
        scorer.extend(ids(5, 1), Greedy())
    states = torch.as_tensor(ours.hidden[: len(ours.ids)]).cpu()
    assert float((states - plain.hidden[: len(plain.ids)].cpu()).norm() / states.norm()) < 1e-4


def test_single_tokens_go_to_the_end_of_the_cache(decoder: model.Decoder) -> None:
    scorer = GraphScorer(decoder, CAPACITY)
    scorer.warm((1,))
    scorer.extend(ids(CAPACITY - 6), Greedy())
    token = 3
    for _ in range(6):
        token = next(iter(scorer.extend([token], Greedy())[0]))
    assert len(scorer.ids) == CAPACITY and scorer.hits == 4
    with pytest.raises(ModelUsageError):
        scorer.extend([token], Greedy())
