"""The scorer of the GPU for latent attention, grouped positions and experts, held to the plain decoder.

On a CPU it runs on the kernels' twins.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import model
from kernels import backend
from kernels.weights import Four
from model import companions
from model.config import Experts, Grouped, Latent, Rope
from model.convert import convert
from model.engine import Fixed, Greedy, LookupDraft, NoDraft, Sampled, decode
from model.engine.graph_drafts import GraphDraft
from model.engine.graph_scorer import GraphScorer
from model.engine.scorer import CachedScorer
from model.feed_forward.moe import set_routing_strategy
from model.gpu import unsupported
from model.gpu.halves import Dense, Mixture
from model.gpu.halves import Latent as LatentHalf
from model.quantised import Int8Embedding, Int8Linear
from tests.model.architecture import made
from tests.tiny import write_tiny_safetensors
from validators import AcceptAll

CAPACITY = 300
SMALL = Path(companions.FOLDER / "viable-small")
LATENT: dict[str, Any] = {"rope": Rope(10_000.0, 16), "latent": Latent(32, 24, 32)}
KINDS: dict[str, dict[str, Any]] = {
    "latent-experts": LATENT,
    "far-tempered": LATENT | {"attention": "mla-grouped", "grouped": Grouped(50, 8, tempered=True)},
    "low-rank-queries": LATENT | {"latent": Latent(32, 24, 32, query_width=40), "experts": None, "qkv_bias": True},
    "far-dense": LATENT | {"attention": "mla-grouped", "experts": None},
    "sigmoid-unbalanced": LATENT
    | {"experts": Experts(6, 2, 24, scoring="sigmoid", normalised=False, balanced=False, scale=2.0)},
}


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 100, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def decoder_of(kind: str, device: str) -> model.Decoder:
    return made(**KINDS[kind]).to(device)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [(32, 5, 1, 70), (130, 42, 1)], ids=str)
def test_ranks_as_the_plain_scorer_does(kind: str, pieces: tuple[int, ...], device: str) -> None:
    decoder = decoder_of(kind, device)
    scorer, plain = GraphScorer(decoder, CAPACITY), CachedScorer(decoder, CAPACITY)
    for order in (Greedy(), Sampled(0.8, 0.9, seed=3)):
        for seed, count in enumerate(pieces):
            new = ids(count, seed)
            ours, theirs = scorer.extend(new, order), plain.extend(new, order)
            for row in {0, count // 2, count - 1}:
                assert list(islice(ours[row], 10)) == list(islice(theirs[row], 10))
        states = [each.hidden[: sum(pieces)].double() for each in (scorer, plain)]
        assert float((states[0] - states[1]).norm() / states[1].norm()) < 2e-5
        for each in (scorer, plain):
            each.truncate(0)


@pytest.mark.parametrize("strategy", [(0.5, "topk"), (0.35, "dense")])
def test_thresholds_of_a_router_hold(strategy: tuple[float, str], device: str) -> None:
    decoder = decoder_of("latent-experts", device)
    set_routing_strategy(decoder, *strategy)
    scorer, plain = GraphScorer(decoder, CAPACITY), CachedScorer(decoder, CAPACITY)
    for new in (ids(20), ids(3, 1), [5]):
        scorer.extend(new, Greedy()), plain.extend(new, Greedy())
    assert float((scorer.hidden[:24] - plain.hidden[:24]).norm() / plain.hidden[:24].norm()) < 2e-5


@pytest.mark.parametrize("kind", ["latent-experts", "far-tempered"])
def test_blocks_decode_to_what_single_tokens_decode_to(kind: str, device: str) -> None:
    decoder = decoder_of(kind, device)
    texts = []
    for scorer, drafter in (
        (CachedScorer(decoder, CAPACITY), NoDraft()),
        (GraphScorer(decoder, CAPACITY), LookupDraft()),
    ):
        steps = decode(
            ids(40) + ids(4) + ids(40),
            scorer=scorer,
            validator=AcceptAll(),
            state=None,
            drafter=drafter,
            order=Greedy(),
            end_ids=(),
            max_tokens=30,
            window=Fixed(2),
        )
        texts.append([token for step in steps for token in step.ids])
    assert texts[0] == texts[1]


def test_what_was_converted_is_served_by_the_same_kernels(tmp_path: Path, device: str) -> None:
    before, after = write_tiny_safetensors(tmp_path, width=128, heads=4, groups=2), tmp_path / "latent"
    convert(before, after)
    old, new = (model.load(path, device=device, dtype="float32") for path in (before, after))
    scorer, plain = GraphScorer(new, CAPACITY), CachedScorer(old, CAPACITY)
    layer = scorer._block.layers[0]
    assert isinstance(layer.attention, LatentHalf) and isinstance(layer.feed_forward, Dense)
    for count in (60, 1, 3, 32):
        scorer.extend(ids(count, count), Greedy()), plain.extend(ids(count, count), Greedy())
    assert float((scorer.hidden[:96] - plain.hidden[:96]).norm() / plain.hidden[:96].norm()) < 2e-5


@pytest.mark.parametrize(
    ("dtype", "bound"), [("float32", 1e-4), pytest.param("bfloat16", 0.05, marks=pytest.mark.gpu), ("int4", 0.05)]
)
def test_the_small_model_with_its_drafts(dtype: str, bound: float, device: str) -> None:
    """The checkpoint that is shipped: logits, and the text that drafted blocks write."""
    with backend.use("stream"):
        decoder = model.load(SMALL, device=device, dtype=dtype)
    if device == "cpu" and isinstance(decoder.projection, Int8Linear):  # the loader keeps the checkpoint's bytes there
        decoder.embedding = Int8Embedding(decoder.projection.packed.data)
    assert unsupported(decoder) is None
    scorer, plain = GraphScorer(decoder, 80), CachedScorer(decoder, 80)
    mixture = scorer._block.layers[0].feed_forward
    assert isinstance(mixture, Mixture)
    assert isinstance(mixture.gate_up, Four) is (dtype == "int4")
    prompt = [(7 * i * i + 11 * i) % 30_000 for i in range(33)]
    for new in (prompt, prompt[:3], prompt[5:6]):
        ours, theirs = scorer.extend(new, Greedy())[-1], plain.extend(new, Greedy())[-1]
    logits = ours._rows.logits(len(new) - 1), theirs._rows[len(new) - 1].float()  # type: ignore[attr-defined]
    assert float((logits[0] - logits[1]).norm() / logits[1].norm()) < bound
    if dtype == "float32":
        scorer = GraphScorer(decoder, 80)
        drafter = companions.mtp_drafter(decoder, SMALL, None, scorer, 80, 2)
        assert isinstance(drafter, GraphDraft)
        texts = []
        for each, by in ((plain, NoDraft()), (scorer, drafter)):
            steps = decode(
                prompt, scorer=each, validator=AcceptAll(), state=None, drafter=by, order=Greedy(), end_ids=(),
                max_tokens=9, window=Fixed(2),
            )  # fmt: skip
            texts.append([token for step in steps for token in step.ids])
        assert texts[0] == texts[1]
        assert scorer.hits > 0


def test_says_which_kinds_it_cannot_compute() -> None:
    odd = made(**LATENT | {"latent": Latent(40, 24, 32)})
    assert unsupported(odd) == "latents of width 40 have no fused kernels"
    assert "attention has no" in (unsupported(made(attention="swa", rope=Rope(1e4, 32))) or "")
    many = made(**LATENT | {"experts": Experts(64, 4, 24, first=1)})
    set_routing_strategy(many, 0.5, "dense")
    assert "64 experts" in (unsupported(many) or "")
