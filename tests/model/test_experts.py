"""The mixture of experts against a slow twin, and how experts are chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import kernels
import model
from kernels import backend
from model.config import Experts
from model.errors import BadModelFile, ModelUsageError
from model.feed_forward.moe import MixtureOfExperts, activated, balance, set_routing_strategy
from model.feed_forward.routing import Router
from model.feed_forward.together import Together
from model.saving import save
from tests.model.architecture import CONFIG, ids, made, relative_rms

EXPERTS = CONFIG.experts
assert EXPERTS is not None
KINDS = {
    "sigmoid": EXPERTS,
    "softmax-best": replace(EXPERTS, scoring="softmax", group_score="best", normalised=False, balanced=False),
    "one-group": replace(EXPERTS, groups=1, chosen_groups=1, scale=2.5),
    "no-shared": replace(EXPERTS, shared=0, chosen=1),
    "threshold": replace(EXPERTS, threshold=0.3),
    "threshold-dense": replace(EXPERTS, threshold=0.3, fallback="dense"),
}


def mixture(experts: Experts) -> MixtureOfExperts:
    found = made(experts=experts).get_submodule("blocks.1.feed_forward")
    assert isinstance(found, MixtureOfExperts)
    return found


def rows(count: int, seed: int = 5) -> Tensor:
    return torch.randn(count, CONFIG.width, generator=torch.Generator().manual_seed(seed))


def slow_choice(experts: Experts, router: Router, x: Tensor) -> dict[int, float]:
    """Expert -> gate for one token [K], by Python's own sorting."""
    logits = (router.weight.double() @ x.double()).tolist()
    scores = {
        "sigmoid": lambda: [1 / (1 + pow(2.718281828459045, -z)) for z in logits],
        "softmax": lambda: torch.tensor(logits).softmax(0).tolist(),
    }[experts.scoring]()
    bias = router.bias.tolist() if experts.balanced else [0.0] * experts.count
    wanted = [s + b for s, b in zip(scores, bias, strict=True)]
    size = experts.count // experts.groups
    groups = [range(g * size, (g + 1) * size) for g in range(experts.groups)]
    take = {"best": 1, "best-two": 2}[experts.group_score]
    groups.sort(key=lambda group: -sum(sorted((wanted[e] for e in group), reverse=True)[:take]))
    allowed = [e for group in groups[: experts.chosen_groups] for e in group]
    chosen = sorted(sorted(allowed, key=lambda e: -wanted[e])[: experts.chosen], key=lambda e: -scores[e])
    if experts.threshold:
        mass = [sum(scores[e] for e in chosen[: n + 1]) / sum(scores) for n in range(len(chosen))]
        enough = [n + 1 for n, reached in enumerate(mass) if reached >= experts.threshold]
        if enough:
            chosen = chosen[: enough[0]]
        elif experts.fallback == "dense":
            chosen = list(range(experts.count))
    total = sum(scores[e] for e in chosen) if experts.normalised else 1.0
    return {e: scores[e] / total * experts.scale for e in chosen}


def slow_mixture(experts: Experts, module: MixtureOfExperts, x: Tensor) -> Tensor:
    """Token by token, expert by expert."""
    gate_up = module.expert_gate_up.weight.view(experts.count, -1, CONFIG.width)  # type: ignore[operator, union-attr]
    down = module.expert_down.weight.view(experts.count, CONFIG.width, -1)  # type: ignore[operator, union-attr]
    answers = module.shared(x)
    for i, row in enumerate(x):
        for e, weight in slow_choice(experts, module.router, row).items():
            gate, up = (gate_up[e] @ row).chunk(2)
            answers[i] += weight * (down[e] @ (F.silu(gate) * up))
    found: Tensor = answers
    return found


@pytest.mark.parametrize("name", ["loop", "grouped", "reference"])
@pytest.mark.parametrize("experts", KINDS.values(), ids=KINDS.keys())
def test_against_the_slow_twin(experts: Experts, name: str) -> None:
    module, x = mixture(experts), rows(33)
    with backend.use(name):
        ours = module(x)
    assert relative_rms(ours, slow_mixture(experts, module, x)) <= 2e-6


@pytest.mark.parametrize("experts", KINDS.values(), ids=KINDS.keys())
def test_the_choice_is_the_slow_twins(experts: Experts) -> None:
    module, x = mixture(experts), rows(200)
    choice = module.router(x)
    for row, found, gates in zip(x, choice.ids.tolist(), choice.gates.tolist(), strict=True):
        expected = slow_choice(experts, module.router, row)
        ours = {e: gate for e, gate in zip(found, gates, strict=True) if e < experts.count}
        assert ours == pytest.approx(expected, rel=1e-4)


SMALL = {name: replace(kind, width=32) for name, kind in KINDS.items()} | {
    "two-shared": replace(EXPERTS, width=32, shared=2),
}


def small(experts: Experts, folder: Path) -> tuple[MixtureOfExperts, MixtureOfExperts]:
    """A mixture as a loader gives it in four bits, and in fp32."""
    written = made(experts=experts)
    save(written.config, dict(written.named_parameters()), folder)
    found = (model.load(folder, dtype=dtype).get_submodule("blocks.1.feed_forward") for dtype in ("int4", "float32"))
    few, whole = found
    assert isinstance(few, MixtureOfExperts) and isinstance(whole, MixtureOfExperts)
    return few, whole


@pytest.mark.parametrize("experts", SMALL.values(), ids=SMALL.keys())
@torch.inference_mode()
def test_all_together_are_the_chosen_ones(experts: Experts, tmp_path: Path) -> None:
    few, whole = small(experts, tmp_path)
    assert isinstance(few.few, Together)
    x = rows(32)
    many = few(torch.cat([x, rows(1, 6)]))[:32]  # as many rows go to the experts that were chosen, one after the other
    together = few(x)
    assert relative_rms(together, many) <= 1e-2  # activations are rounded to bfloat16
    assert relative_rms(together, slow_mixture(experts, whole, x)) <= 0.2  # weights are, to four bits
    for count in (1, 3, 20):
        assert torch.equal(torch.cat([few(part) for part in x.split(count)]), together)


@pytest.mark.parametrize("change", [{"width": 24}, {"width": 1024}])
def test_no_other_mixture_is_put_together(change: dict[str, int], tmp_path: Path) -> None:
    few, _ = small(replace(EXPERTS, **change), tmp_path)  # type: ignore[arg-type]
    assert not isinstance(few.few, Together)


def test_counts_are_of_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = made()
    read: list[int] = []
    product = kernels.expert_linear

    def counted(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        read.append(int(ends[-1]))
        return product(x, weight, ends)

    monkeypatch.setattr(kernels, "expert_linear", counted)
    for threshold, fallback in ((0.0, "topk"), (0.3, "topk"), (0.3, "dense"), (1.0, "dense")):
        set_routing_strategy(decoder, threshold, fallback)
        for part in decoder.modules():
            if isinstance(part, Router):
                part.counted.reset()
        read.clear()
        decoder(ids(40))
        assert activated(decoder) == pytest.approx(sum(read) / 2 / (80 * 2))  # two products; 80 tokens in two layers
    assert activated(decoder) == EXPERTS.count


@given(st.floats(0.01, 1.0))
def test_a_lower_threshold_never_takes_more(threshold: float) -> None:
    module, x = mixture(EXPERTS), rows(64)

    def used(least: float) -> Tensor:
        module.router.set_strategy(least, "topk")
        return (module.router(x).ids < EXPERTS.count).sum(-1)

    assert (used(threshold / 2) <= used(threshold)).all()
    assert used(threshold).max() <= EXPERTS.chosen and used(threshold).min() >= 1


def test_balancing_evens_out_the_load() -> None:
    torch.manual_seed(0)
    module, x = mixture(replace(EXPERTS, chosen_groups=4)), rows(2000)
    x[:, 0] += 3  # a direction that all tokens share favours some experts

    def spread() -> float:
        module.router.counted.reset()
        module.router(x)
        load = module.router.counted.load.float()
        return float(load.std() / load.mean())

    before, gates = spread(), module.router(x).gates
    for _ in range(300):
        module.router(x)
        balance(module, 0.01)
    assert spread() < 0.25 * before
    assert torch.allclose(gates.sum(-1), torch.ones(2000))


def test_gradients_are_those_of_the_slow_twin() -> None:
    ours, theirs = mixture(EXPERTS), mixture(EXPERTS)
    x = rows(20)
    for module, compute in ((ours, ours), (theirs, lambda x: slow_training_twin(theirs, x))):
        module.requires_grad_(True)
        compute(x).square().sum().backward()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name != "router.bias":
            assert one.grad is not None and other.grad is not None
            assert relative_rms(one.grad, other.grad) <= 1e-5, name


def slow_training_twin(module: MixtureOfExperts, x: Tensor) -> Tensor:
    """All experts for all tokens, times gates that are mostly zero."""
    choice = module.router(x)
    gates = torch.zeros(len(x), EXPERTS.count).scatter(1, choice.ids, choice.gates)
    gate_up = module.expert_gate_up.weight.view(EXPERTS.count, -1, CONFIG.width)  # type: ignore[operator, union-attr]
    down = module.expert_down.weight.view(EXPERTS.count, CONFIG.width, -1)  # type: ignore[operator, union-attr]
    gate, up = torch.einsum("mk,enk->men", x, gate_up).chunk(2, -1)
    found: Tensor = torch.einsum("men,ekn,me->mk", F.silu(gate) * up, down, gates) + module.shared(x)
    return found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chosen": 9}, "9 experts of 2 groups cannot be chosen"),
        ({"groups": 5}, "16 experts cannot be shared out over 5 groups"),
        ({"groups": 16, "chosen_groups": 16}, "groups of one expert"),
        ({"scoring": "coin"}, "scoring is 'coin'"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"fallback": "luck"}, "fallback is 'luck'"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_experts_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadModelFile, match=words):
        replace(EXPERTS, **changes)


def test_strategies_that_cannot_be() -> None:
    with pytest.raises(ModelUsageError, match=r"threshold of -0.1"):
        set_routing_strategy(made(), -0.1, "topk")
    with pytest.raises(ModelUsageError, match="'luck'"):
        set_routing_strategy(made(), 0.5, "luck")
    with pytest.raises(ModelUsageError, match="no bias"):
        balance(made(experts=replace(EXPERTS, balanced=False)), 0.1)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's tracer, by itself
def test_training_waits_for_no_count_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as one graph, which a look at a count would break."""
    monkeypatch.setitem(backend.BACKENDS, "expert_linear", {"cpu": ("grouped",)})
    with backend.use(None):
        module = made(dtype=torch.bfloat16).get_submodule("blocks.1.feed_forward").requires_grad_(True)
        assert isinstance(module, MixtureOfExperts)
        x = rows(64).bfloat16()
        expected = module(x)
        traced = torch.compile(module, backend="aot_eager", fullgraph=True)(x)
        assert torch.equal(traced, expected)
        traced.float().square().sum().backward()
        assert module.router.weight.grad is not None
