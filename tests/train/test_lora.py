"""An adapter: merged and beside its layers it is the same, off it is nothing, and its file keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import model
from model import Decoder, lora
from model.errors import BadWeights
from tests.tiny import write_tiny_gguf
from tests.train.small import decoder, ids_like


def random_adapter(made: Decoder, rank: int, seed: int) -> lora.Adapter:
    fresh = lora.fresh(made, rank, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    pairs = {
        name: (down, torch.randn(up.shape, generator=generator) * 0.05) for name, (down, up) in fresh.pairs.items()
    }
    return lora.Adapter(pairs, {"base": "none", "task": "fim"})


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("rank", [1, 5])
def test_merged_is_unmerged(tmp_path: Path, family: str, rank: int) -> None:
    beside, tokenizer, _ = decoder(tmp_path, family=family, seed=4)
    merged, _, _ = decoder(tmp_path, family=family, seed=4)
    adapter = random_adapter(beside, rank, 7)
    ids = ids_like(tokenizer, 2, 19)
    plain = merged(ids)
    switch = lora.attach(beside, adapter)
    lora.merge(merged, adapter)
    torch.testing.assert_close(beside(ids), merged(ids), rtol=1e-4, atol=1e-4)
    assert (beside(ids) - plain).abs().max() > 0.1
    with switch.set(False):
        assert torch.equal(beside(ids), plain)
    assert not torch.equal(beside(ids), plain)


def test_a_fresh_adapter_changes_nothing(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    ids = ids_like(tokenizer, 1, 9)
    before = made(ids)
    lora.attach(made, lora.fresh(made, 3, 0))
    assert torch.equal(made(ids), before)


def test_the_cached_pass_is_adapted_too(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    lora.attach(made, random_adapter(made, 4, 1))
    ids = ids_like(tokenizer, 1, 21)
    cache = made.new_cache(32)
    with torch.inference_mode():
        pieces = [made.hidden(piece, cache) for piece in ids.split([7, 1, 13], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), made.hidden(ids), rtol=1e-4, atol=1e-4)


def test_the_file_keeps_eight_bits_and_what_it_was_made_for(tmp_path: Path) -> None:
    made, _, _ = decoder(tmp_path)
    adapter = random_adapter(made, 4, 3)
    lora.save(adapter, tmp_path / "a.safetensors")
    back = lora.load(tmp_path / "a.safetensors")
    assert back.about == adapter.about and set(back.pairs) == set(adapter.pairs)
    assert back.parameters == adapter.parameters
    rounded = lora.rounded(adapter)
    for name, (down, up) in adapter.pairs.items():
        assert torch.equal(back.pairs[name][0], rounded.pairs[name][0])
        assert torch.equal(back.pairs[name][1], rounded.pairs[name][1])
        for exact, kept in ((down, back.pairs[name][0]), (up.T, back.pairs[name][1].T)):
            steps = exact.abs().amax(-1, keepdim=True) / 127
            assert ((exact - kept).abs() <= steps * 0.5001).all()
    lora.save(back, tmp_path / "b.safetensors")
    assert torch.equal(lora.load(tmp_path / "b.safetensors").pairs[name][0], back.pairs[name][0])


def test_detached_is_attached(tmp_path: Path) -> None:
    made, tokenizer, _ = decoder(tmp_path)
    ids = ids_like(tokenizer, 1, 9)
    before = made(ids)
    adapter = random_adapter(made, 4, 3)
    lora.attach(made, adapter)
    out = lora.detach(made)
    assert torch.equal(made(ids), before)
    assert all(torch.equal(out.pairs[n][i], adapter.pairs[n][i]) for n in adapter.pairs for i in (0, 1))


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    made, _, _ = decoder(tmp_path)
    other, _, _ = decoder(tmp_path, width=32)
    with pytest.raises(BadWeights, match=r"pair for blocks\.0"):
        lora.attach(made, lora.fresh(other, 2, 0))
    deeper, _, _ = decoder(tmp_path, layers=3)
    with pytest.raises(BadWeights, match=r"blocks\.2.*does not have"):
        lora.merge(made, lora.fresh(deeper, 2, 0))


def test_eight_bits_beside_eight_bits_are_the_same_correction(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path, kind="Q8_0")
    adapter = lora.rounded(random_adapter(model.load(path, dtype="float32"), 5, 7))
    made = model.load(path, dtype="int8")
    plain = lora.layers(made)
    switch = lora.attach_eight_bits(made, adapter)
    for place, layer in lora.layers(made).items():
        down, up = adapter.pairs[place]
        x = torch.randn(1, 40, down.shape[1], generator=torch.Generator().manual_seed(3))
        for rows in (x[:, :3], x):
            base = plain[place](rows)
            expected = rows @ down.T @ up.T
            assert (layer(rows) - base - expected).norm() <= 6e-3 * expected.norm()  # three roundings to bfloat16
            with switch.set(False):
                assert torch.equal(layer(rows), base)


def test_an_adapter_within_the_weights_comes_out_bit_for_bit(tmp_path: Path) -> None:
    inside, tokenizer, _ = decoder(tmp_path, seed=4)
    merged, _, _ = decoder(tmp_path, seed=4)
    adapter = random_adapter(inside, 3, 7)
    ids = ids_like(tokenizer, 2, 19)
    plain = merged(ids)
    switch = lora.attach_merged(inside, adapter)
    lora.merge(merged, adapter)
    torch.testing.assert_close(inside(ids), merged(ids), rtol=1e-4, atol=1e-4)
    with switch.set(False):
        assert torch.equal(inside(ids), plain)
        with switch.set(False):
            assert torch.equal(inside(ids), plain)
    torch.testing.assert_close(inside(ids), merged(ids), rtol=1e-4, atol=1e-4)
