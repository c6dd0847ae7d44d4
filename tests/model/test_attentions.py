"""Every kind of attention: through the cache as without it, and each against a slow twin."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.attention import ATTENTIONS, regions
from model.attention.grouped import GroupedLatentAttention
from model.attention.mla import ABSORBED_ROWS, HeadsUp, LatentAttention
from model.attention.span import Span
from model.config import Grouped, Latent, Rope
from model.errors import BadModelFile
from model.layers import rotate
from tests.model.architecture import CONFIG, ids, in_pieces, made, relative_rms

LATENT = CONFIG.latent
assert LATENT is not None
LATENTS = {
    "plain": LATENT,
    "low-rank-queries": replace(LATENT, query_width=48),
    "no-norm-no-plain": replace(LATENT, plain_width=0, normed=False, gain=1.7),
    "wide-values": replace(LATENT, value_width=72),
}
PIECES = [(150,), (1,) * 150, (64, 1, 3, 2, 33, 1, 46), (149, 1), (33, 32, 32, 53)]


@pytest.mark.parametrize("sizes", PIECES, ids=lambda sizes: f"{len(sizes)}-pieces")
@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_through_the_cache_is_as_without_it(name: str, sizes: tuple[int, ...]) -> None:
    decoder = made(attention=name)
    tokens = ids(150)
    assert relative_rms(in_pieces(decoder, tokens, sizes), decoder(tokens)) <= 2e-6


@pytest.mark.parametrize("latent", LATENTS.values(), ids=LATENTS.keys())
@pytest.mark.parametrize("name", ["mla", "mla-grouped"])
def test_both_forms_of_latent_attention_are_equal(name: str, latent: Latent) -> None:
    decoder = made(attention=name, latent=latent)
    tokens = ids(110)
    few = in_pieces(decoder, tokens, (60, *(10,) * 5))  # absorbed
    many = in_pieces(decoder, tokens, (60, ABSORBED_ROWS + 1, 17))  # expanded in front
    assert relative_rms(few, many) <= 2e-6
    assert relative_rms(few, decoder(tokens)) <= 2e-6


def test_a_block_after_others_expands_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    expand = HeadsUp.expand
    monkeypatch.setattr(HeadsUp, "expand", lambda self, x: calls.append(x.shape[1]) or expand(self, x))
    in_pieces(made(), ids(100), (60, 3, 32, 1, 4))
    assert calls == [60] * CONFIG.layers


def test_the_cache_holds_the_latent_and_the_rotary_key_alone() -> None:
    (row,) = LatentAttention.rows(CONFIG, 0)
    assert (row.heads, row.width) == (1, 40 + 16)
    (row,) = GroupedLatentAttention.rows(CONFIG, 0)
    assert (row.heads, row.width) == (1, 40 + 2 * 16)


def test_a_row_is_an_eighth_of_what_every_head_would_keep() -> None:
    config = replace(CONFIG, heads=10, latent=Latent(128, 32, 64), rope=Rope(10_000.0, 32))
    (row,) = LatentAttention.rows(config, 0)
    assert 8 * row.width == config.heads * (32 + 32 + 64)


@pytest.mark.parametrize("name", sorted(ATTENTIONS))
def test_a_pass_can_be_differentiated(name: str) -> None:
    decoder = made(attention=name, latent=LATENTS["low-rank-queries"], grouped=Grouped(20, 4, tempered=True), window=20)
    decoder.requires_grad_(True)
    decoder(ids(60)).logsumexp(-1).sum().backward()
    idle = [key for key, weight in decoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert all(key.endswith("router.bias") for key in idle)  # moved by `balance`, not by gradients


def slow_latent_attention(module: LatentAttention, x: Tensor, turns: Tensor) -> Tensor:
    """Query by query, head by head and key by key, as the paper says it. turns [T, T]: the distance that is seen."""
    frequencies = 1.0 / 10_000.0 ** (torch.arange(0, 16, 2).double() / 16)
    first, kept = module.down(x).double().split(module.parts, -1)
    queries = first.unflatten(-1, (module.heads, -1))
    latent, keys = kept.split([module.latent, 16], -1)
    weight = module.latent_norm.weight.double()  # type: ignore[union-attr, operator]
    latent = latent / (latent.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight
    up = module.up.weight.double().unflatten(0, (module.heads, -1))
    answers = torch.zeros(len(x), module.heads, module.value, dtype=torch.double)
    for i in range(len(x)):
        for h in range(module.heads):
            plain, turned = queries[i, h].split([module.plain, 16])
            scores = []
            for j in range(i + 1):
                angle = turns[i, j] * frequencies
                a, b = turned[:8], turned[8:]
                c, d = keys[j, :8], keys[j, 8:]
                rotary = ((a * c + b * d) * angle.cos() + (b * c - a * d) * -angle.sin()).sum()
                scores.append(plain @ (up[h, : module.plain] @ latent[j]) + rotary)
            weights = (torch.stack(scores) * module.scale).softmax(0)
            answers[i, h] = weights @ (latent[: i + 1] @ up[h, module.plain :].T)
    return answers.flatten(1) @ module.out.weight.double().T


def distances(time: int, grouped: Grouped) -> Tensor:
    """[T, T]: what a query at i sees of a key at j."""
    at = torch.arange(time)
    back = at.unsqueeze(1) - at
    g, w = grouped.factor, grouped.window
    return torch.where(back < w, back, (at // g).unsqueeze(1) + w - w // g - at // g)


@pytest.mark.parametrize("grouped", [Grouped(50, 8), Grouped(7, 4), Grouped(1, 3), Grouped(5, 1), Grouped(12, 12)])
def test_against_the_slow_twin(grouped: Grouped) -> None:
    decoder = made(attention="mla-grouped", grouped=grouped)
    module = decoder.get_submodule("blocks.1.attention")
    assert isinstance(module, LatentAttention)
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        span = Span(0, 40, decoder.rotary(torch.arange(40)), torch.float32)
        ours = module(x[None], span, None)[0]
        theirs = slow_latent_attention(module, x, distances(40, grouped))
    assert relative_rms(ours.double(), theirs) <= 2e-6


def test_coarse_distances_grow_by_the_factor() -> None:
    seen = distances(4096, Grouped(512, 8))
    assert (seen.diff(dim=0)[:, 0] >= 0).all()
    assert seen.max() <= 512 + (4096 - 512) / 8 + 1


@pytest.mark.parametrize("name", ["gqa", "mla"])
def test_grouped_positions_within_the_window_change_nothing(name: str) -> None:
    tokens = ids(50)
    plain, grouped = (made(attention=kind)(tokens) for kind in (name, f"{name}-grouped"))
    assert torch.equal(plain, grouped)
    longer = ids(120)
    assert relative_rms(made(attention=name)(longer), made(attention=f"{name}-grouped")(longer)) > 1e-3


@pytest.mark.parametrize("name", ["gqa", "mla"])
def test_a_factor_of_one_is_plain_positions(name: str) -> None:
    tokens = ids(120)
    grouped = made(attention=f"{name}-grouped", grouped=Grouped(20, 1))(tokens)
    assert relative_rms(grouped, made(attention=name)(tokens)) <= 2e-6


@pytest.mark.parametrize("name", ["gqa-grouped", "mla-grouped"])
def test_temperatures_are_learnt_near_and_far(name: str) -> None:
    decoder = made(attention=name, grouped=Grouped(20, 4, tempered=True))
    decoder.requires_grad_(True)
    decoder(ids(60)).logsumexp(-1).sum().backward()
    for i in range(CONFIG.layers):
        gradient = decoder.get_submodule(f"blocks.{i}.attention.temperatures").weight.grad
        assert isinstance(gradient, Tensor) and (gradient != 0).all()


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(0, 300), st.integers(1, 60), st.sampled_from([1, 2, 4]))
def test_regions_against_all_scores(time: int, before: int, window: int, groups: int) -> None:
    random = torch.Generator().manual_seed(time)
    seen = before + time
    near, far = (torch.randn(1, 4, time, 8, generator=random) for _ in range(2))
    near_keys, far_keys, values = (torch.randn(1, groups, seen, 8, generator=random) for _ in range(3))
    ours = regions.attend((near, near_keys), (far, far_keys), values, window)
    every = [part.repeat_interleave(4 // groups, 1) for part in (near_keys, far_keys, values)]
    back = torch.arange(before, seen).unsqueeze(1) - torch.arange(seen)
    scores = torch.where(back < window, near @ every[0].transpose(2, 3), far @ every[1].transpose(2, 3))
    expected = scores.masked_fill(back < 0, -torch.inf).softmax(-1) @ every[2]
    assert relative_rms(ours, expected) <= 1e-5


def test_long_runs_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = made(attention="mla-grouped")
    whole = decoder(ids(130))
    monkeypatch.setattr(regions, "RUN", 32)
    assert relative_rms(decoder(ids(130)), whole) <= 2e-6


def test_a_sliding_window_sees_its_own_keys_alone() -> None:
    decoder = made(attention="swa", layers=1)
    tokens = ids(140, 1)
    changed = tokens.clone()
    changed[0, 20] += 1
    changed %= CONFIG.vocab_size
    differs = (decoder(tokens) != decoder(changed)).any(-1)[0]
    assert differs[20 : 20 + CONFIG.window].all()
    assert not differs[:20].any() and not differs[20 + CONFIG.window :].any()


def test_a_sliding_window_as_wide_as_the_text_is_plain_attention() -> None:
    tokens = ids(120)
    assert torch.equal(made(attention="swa", window=120)(tokens), made(attention="gqa")(tokens))


def test_another_attention_is_one_line_of_the_configuration() -> None:
    one, other = (
        [f"{key} = {value!r}" for key, value in asdict(replace(CONFIG, attention=name)).items()]
        for name in ("mla", "swa")
    )
    changed = [line for line in difflib.ndiff(one, other) if line[0] in "+-"]
    assert changed == ["- attention = 'mla'", "+ attention = 'swa'"]
    # And what the other attention is made of fits a page; the decoder names none.
    source = Path(__file__).parents[2] / "model"
    assert len((source / "attention" / "swa.py").read_text().splitlines()) <= 60
    assert not re.search(r"mla|swa|latent|window|grouped", (source / "decoder.py").read_text())


def test_what_an_attention_needs_is_asked_for_by_name() -> None:
    with pytest.raises(BadModelFile, match="'mla' needs a latent"):
        made(latent=None)
    with pytest.raises(BadModelFile, match="'gqa-grouped' needs a window"):
        made(attention="gqa-grouped", grouped=None)


def test_repeated_frequencies_turn_every_key_alike() -> None:
    decoder = made(latent=replace(LATENT, plain_width=8), rope=Rope(10_000.0, 32, repeats=2))
    cos, sin = decoder.rotary(torch.arange(9))
    x = torch.randn(9, 16)
    pair = torch.cat([x[:, :8], x[:, :8], x[:, 8:], x[:, 8:]], -1)
    alone = rotate(x, made().rotary(torch.arange(9)))
    both = rotate(pair, (cos, sin))
    assert torch.equal(both[:, :8], alone[:, :8]) and torch.equal(both[:, 24:], alone[:, 8:])
