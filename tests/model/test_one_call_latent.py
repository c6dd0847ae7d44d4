"""Blocks with latents and experts in one call: what the modules compute, row by row, whatever is beside a row."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
import model
from kernels import backend, native
from kernels.layer import Text
from model.companions import FOLDER
from model.config import Experts, Grouped, Latent, Rope
from model.decoder import Block
from model.feed_forward.moe import mixtures, set_routing_strategy
from model.loaders.drafting import load_drafts
from model.loaders.matrix import Matrix
from model.loaders.pick import pick_rows
from model.mtp_rows import MTPRows
from model.one_call import PIECE, TOGETHER, OneCall
from model.saving import save
from tests.model.architecture import ids, made, relative_rms

SMALL = FOLDER / "viable-small"
EXPERTS = Experts(16, 4, 32, groups=4, chosen_groups=2, shared=2, first=1)
FITS: dict[str, Any] = {
    "width": 64, "heads": 6, "rope": Rope(10_000.0, 32), "latent": Latent(32, 16, 32), "experts": EXPERTS,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "near-and-far": FITS | {"attention": "mla-grouped", "grouped": Grouped(50, 8)},
    "tempered": FITS | {"attention": "mla-grouped", "grouped": Grouped(40, 8, True), "qkv_bias": True},
    "plain": FITS | {"attention": "mla", "latent": Latent(32, 16, 32, normed=False)},
    "grouped-queries": FITS | {"attention": "gqa", "rope": Rope(10_000.0, 32), "heads": 4},
}
IDS = ids(250, 1)

pytestmark = pytest.mark.skipif(not native.lanes(), reason="no such instructions here")


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latent")
    written = made(**KINDS[request.param])
    save(written.config, dict(written.named_parameters()), path)
    return path


@pytest.fixture(scope="module")
def decoder(folder: Path) -> model.Decoder:
    return model.load(folder, dtype="int8")


def scored(decoder: model.Decoder, blocks: list[int], begin: int = 0) -> Tensor:
    """The states of passes of so many rows, behind `begin` rows."""
    cache = decoder.new_cache(IDS.shape[1])
    if begin:
        decoder.hidden(IDS[:, :begin], cache)
    with torch.inference_mode():
        ends = [min(begin + sum(blocks[: count + 1]), IDS.shape[1]) for count in range(len(blocks))]
        parts = [IDS[:, start:end] for start, end in pairwise([begin, *ends]) if end > start]
        return torch.cat([decoder.hidden(part, cache) for part in parts], 1)


def by_modules(decoder: model.Decoder, blocks: list[int]) -> Tensor:
    """`scored` without a call for a whole layer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OneCall, "forward", Block.forward)
        patch.setattr(OneCall, "run", Block.run)
        return scored(decoder, blocks)


@torch.inference_mode()
def test_all_rows_are_what_the_modules_compute(folder: Path, decoder: model.Decoder) -> None:
    """Modules round queries to bfloat16, one call what latents are raised with: both are as far from fp32."""
    assert all(isinstance(block, OneCall) for block in decoder.blocks)
    blocks = [1, 3, 32, 70, 14, 100]
    ours, theirs = scored(decoder, blocks), by_modules(decoder, blocks)
    exact = model.load(folder, dtype="float32").hidden(IDS[:, : sum(blocks)])
    rounded = relative_rms(theirs, exact)
    assert relative_rms(ours, exact) <= 1.1 * rounded and relative_rms(ours, theirs) <= rounded <= 0.1


@settings(max_examples=8)
@given(begin=st.integers(0, 110), blocks=st.lists(st.integers(1, 2 * PIECE), min_size=1, max_size=3))
def test_rows_together_are_rows_apart(decoder: model.Decoder, begin: int, blocks: list[int]) -> None:
    if decoder.config.attention == "gqa":
        blocks = [min(rows, 32) for rows in blocks]
    together = scored(decoder, blocks, begin)
    assert torch.equal(together, scored(decoder, [1] * together.shape[1], begin))


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(decoder: model.Decoder, threads: int) -> None:
    if decoder.config.attention == "gqa":
        pytest.skip("a prompt goes module by module")
    before, found = torch.get_num_threads(), []
    for count in (1, threads):
        torch.set_num_threads(count)
        try:
            states = scored(decoder, [133, 3, 1, 17])
            found.append((states, decoder.head(states)))
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(one, many) for one, many in zip(*found, strict=True))


@torch.inference_mode()
def test_texts_together_are_texts_apart(decoder: model.Decoder) -> None:
    texts = [(70, 3), (0, 1), (41, 6)]
    found = []
    for together in (True, False):
        caches = [decoder.new_cache(IDS.shape[1]) for _ in texts]
        for (start, _), cache in zip(texts, caches, strict=True):
            if start:
                decoder.hidden(IDS[:, :start], cache)
        blocks = [IDS[:, start : start + rows] for start, rows in texts]
        if together:
            found.append(decoder.together(list(zip(blocks, caches, strict=True))))
        else:
            found.append(tuple(decoder.hidden(block, cache) for block, cache in zip(blocks, caches, strict=True)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_threshold_of_mass_goes_by_modules(decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    layer = kernels.layer
    monkeypatch.setattr(model.one_call.kernels, "layer", lambda *given: called.append(1) or layer(*given))
    set_routing_strategy(decoder, 0.4, "topk")
    try:
        limited = scored(decoder, [5])
        assert len(called) <= 1  # the first block is dense
    finally:
        set_routing_strategy(decoder, 0.0, "topk")
    assert relative_rms(limited, scored(decoder, [5])) > 1e-3


def test_who_was_chosen_is_counted(decoder: model.Decoder) -> None:
    loads = []
    for run in (scored, by_modules):
        for mixture in mixtures(decoder):
            mixture.router.counted.reset()
        run(decoder, [1, TOGETHER, 30])
        loads.append([mixture.router.counted.load.clone() for mixture in mixtures(decoder)])
        assert all(int(mixture.router.counted.tokens) == 31 + TOGETHER for mixture in mixtures(decoder))
    for ours, theirs in zip(*loads, strict=True):
        assert int(ours.sum()) == 4 * (31 + TOGETHER)
        assert int((ours - theirs).abs().sum()) <= 4  # near ties


def test_the_shipped_model_takes_one_call() -> None:
    decoder = model.load(SMALL)
    assert all(isinstance(block, OneCall) for block in decoder.blocks)
    assert [len(block.behind) for block in decoder.blocks if isinstance(block, OneCall)] == [*range(7, -1, -1)]
    with backend.use("aten"):
        assert not any(isinstance(block, OneCall) for block in model.load(SMALL).blocks)


@torch.inference_mode()
def test_the_shipped_model_chooses_experts_as_its_twin_does() -> None:
    decoder, text = model.load(SMALL), Path(__file__).read_text(encoding="utf-8")
    tokens = model.load_tokenizer(SMALL).encode(text)[:48]
    x = decoder.embedding(torch.tensor([tokens]))[0]
    rotation = decoder.rotary(torch.arange(len(tokens)))
    turns = [*rotation, *rotation.query, *rotation.key]
    for block in decoder.blocks:
        assert isinstance(block, OneCall)
        found = []
        for name in ("vnni", backend.REFERENCE):
            with backend.use(name):
                packed = kernels.pack_layer(block.layer)
            kept = Text(0, len(tokens), (torch.zeros(1, len(tokens), 192).bfloat16(),))
            found.append(kernels.layer(x, [packed], turns, [[kept]], False))
        (ours, (our_ids,)), (twin, (twin_ids,)) = found
        assert torch.equal(our_ids.sort().values, twin_ids.sort().values)
        assert relative_rms(ours, twin) <= 2e-4
        x = twin


@torch.inference_mode()
def test_the_shipped_modules_draft_in_one_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = model.load(SMALL)
    drafts = load_drafts(SMALL, decoder)
    head = pick_rows(SMALL, "projection.weight", drafts.ids[:64])
    rows = MTPRows(drafts, decoder, head, 32, 64)
    called = []
    layer = kernels.layer
    monkeypatch.setattr(model.one_call.kernels, "layer", lambda *given: called.append(1) or layer(*given))
    state = torch.randn(12, 512, generator=torch.Generator().manual_seed(1))
    together = rows.advance(0, state, list(range(12)), 0)
    apart = torch.cat([rows.advance(0, state[i : i + 1], [i], i) for i in range(12)])
    assert len(called) == 13 and torch.equal(together, apart)


@torch.inference_mode()
def test_experts_read_from_their_blocks_are_those_that_were_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for _ in range(2):
        found.append(model.load(SMALL).get_submodule("blocks.3.feed_forward"))
        monkeypatch.setattr(Matrix, "chunk", lambda matrix, count: [])
    ours, theirs = found
    x = torch.randn(40, 512, generator=torch.Generator().manual_seed(2))
    assert torch.equal(ours(x), theirs(x))
