"""Modules run row by row say what they say about the whole text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import model
from model import mtp as mtps
from model.layers import Linear
from model.loaders.pick import pick_rows
from model.mtp_rows import MTPRows, in_few_bits
from model.quantised import Int4Linear, Int8Linear
from tests.tiny import write_tiny_gguf


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("mtp"))


@torch.inference_mode()
def test_rows_in_pieces_equal_the_whole_text(path: Path) -> None:
    decoder = model.load(path, dtype="float32")
    config = mtps.MTPConfig(depth=2, feed_forward_width=64, vocabulary=50)
    modules = mtps.fresh(decoder, config, list(range(40, 90)), seed=3).requires_grad_(False)
    ids = torch.randint(0, 256, (1, 23), generator=torch.Generator().manual_seed(5))
    hidden = decoder.hidden(ids)
    whole = modules.states(decoder, ids, hidden)
    head = modules.head_rows(decoder)
    rows = MTPRows(modules, decoder, [head], capacity=64)
    state = hidden[0]
    for depth in range(2):
        tokens = ids[0, depth + 1 :].tolist()
        pieces = [
            rows.advance(depth, state[a:b], tokens[a:b], a) for a, b in ((0, 1), (1, 14), (14, 15), (15, len(tokens)))
        ]
        state = torch.cat(pieces)
        torch.testing.assert_close(state, whole[depth][0], rtol=1e-4, atol=1e-5)
        expected = modules.ids[modules.logits(depth, state[-1], head).argmax()]
        assert rows.best(depth, state[-1]) == int(expected)


def test_picked_rows_are_those_of_the_matrix(path: Path) -> None:
    decoder = model.load(path, dtype="float32")
    chosen = torch.tensor([5, 0, 200, 5])
    assert isinstance(decoder.projection.weight, torch.Tensor)
    assert torch.equal(torch.cat(list(pick_rows(path, "projection.weight", chosen))), decoder.projection.weight[chosen])


@torch.inference_mode()
def test_eight_bits_draft_much_the_same(path: Path) -> None:
    decoder = model.load(path, dtype="int8")
    config = mtps.MTPConfig(depth=1, feed_forward_width=64, vocabulary=50)
    floats = mtps.fresh(model.load(path, dtype="float32"), config, list(range(40, 90)), seed=3).requires_grad_(False)
    head = pick_rows(path, "projection.weight", floats.ids)
    ids = torch.randint(0, 256, (1, 12), generator=torch.Generator().manual_seed(5))
    hidden = decoder.hidden(ids)
    exact = floats.states(model.load(path, dtype="float32"), ids, hidden)[0][0]
    rounded = MTPRows(floats, decoder, head, capacity=64).advance(0, hidden[0, :-1], ids[0, 1:].tolist(), 0)
    assert (rounded - exact).norm() / exact.norm() < 0.05


@pytest.mark.gpu
@torch.inference_mode()
def test_on_a_gpu_they_have_four_bits_and_their_head_eight(path: Path, device: str) -> None:
    decoder = model.load(path, device=device, dtype="bfloat16")
    modules = mtps.fresh(decoder, mtps.MTPConfig(1, 64, 50), list(range(40, 90)), seed=3).requires_grad_(False)
    plain = modules.depths[0].get_submodule("projection")
    assert isinstance(plain, Linear)
    few = in_few_bits(plain)
    assert isinstance(few, Int4Linear)
    x = torch.randn(5, plain.weight.shape[1], device=device)
    assert (few(x) - plain(x)).norm() / plain(x).norm() < 0.1
    head = modules.head_rows(decoder)
    rows = MTPRows(modules, decoder, [head], capacity=64)
    assert isinstance(rows.head, Int8Linear)
    state = torch.randn(9, head.shape[1], device=device)
    assert (rows.head(state) - state @ head.float().T).norm() / (state @ head.float().T).norm() < 0.02
