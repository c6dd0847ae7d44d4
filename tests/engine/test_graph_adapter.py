"""The gap-filling adapter within weights of few bits, as the fused kernels read them, and taken out again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import model
from kernels import backend
from kernels.weights import Eight, Four, dense, four
from model import companions, lora, lora_bits
from model.engine import Greedy
from model.engine.graph_scorer import GraphScorer
from model.loaders.matrix import Matrix
from model.loaders.pick import matrices
from model.quantised import Int8Embedding, Int8Linear, to_int8
from model.rounding import finer, to_int4
from tests.tiny import write_tiny_gguf


def loaded(folder: Path, dtype: str, device: str) -> tuple[Path, model.Decoder]:
    path = write_tiny_gguf(folder, width=128, heads=4, groups=2, layers=2, feed_forward=128, tied=True)
    with backend.use("stream"):
        decoder = model.load(path, device=device, dtype=dtype)
    if device == "cpu":  # where the loader keeps the checkpoint's bytes
        assert isinstance(decoder.projection, Int8Linear)
        decoder.embedding = Int8Embedding(decoder.projection.packed.data)
    return path, decoder


def adapter_for(decoder: model.Decoder) -> lora.Adapter:
    generator = torch.Generator().manual_seed(5)
    pairs = {}
    for path, layer in lora.layers(decoder).items():
        rows, columns = layer.packed.shape  # type: ignore[union-attr]
        pairs[path] = (
            torch.randn(3, columns, generator=generator) * 0.2,
            torch.randn(rows, 3, generator=generator) * 0.2,
        )
    return lora.Adapter(pairs)


@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_it_is_added_before_rounding_and_comes_out_bit_for_bit(tmp_path: Path, dtype: str, device: str) -> None:
    path, decoder = loaded(tmp_path, dtype, device)
    assert lora_bits.fits(decoder)
    whole, adapter = matrices(path), adapter_for(decoder)
    before = {place: dense(layer.packed.data) for place, layer in lora.layers(decoder).items()}  # type: ignore[union-attr, arg-type]
    scorer = GraphScorer(decoder, 64)
    read = lambda place: whole[f"{place}.weight"].read(torch.float32, decoder.device)  # noqa: E731
    rows = []
    switch = lora_bits.attach_rounded(decoder, adapter, read)
    for on in (True, False, True):
        with switch.set(on):
            for place, layer in lora.layers(decoder).items():
                down, up = (part.to(decoder.device) for part in adapter.pairs[place])
                merged = read(place) + up @ down
                held = layer.packed.data  # type: ignore[union-attr]
                assert isinstance(
                    held, Four if dtype == "int4" and place not in finer([*lora.layers(decoder)]) else Eight
                )
                expected = four(*to_int4(merged)) if isinstance(held, Four) else Eight(*to_int8(merged))
                assert torch.equal(dense(held), dense(expected) if on else before[place])
            # What was made of the decoder before reads what is in force now.
            scorer.truncate(0)
            ranking = scorer.extend([1, 2, 3], Greedy())[-1]
            rows.append(ranking._rows.logits(2).clone())  # type: ignore[attr-defined]
    assert torch.equal(rows[0], rows[2]) and float((rows[0] - rows[1]).norm() / rows[1].norm()) > 0.01


def test_a_gpu_gets_it_so(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, decoder = loaded(tmp_path, "int4", device)
    lora.save(lora.Adapter(adapter_for(decoder).pairs, {"base": "1234"}), tmp_path / "fim-adapter.safetensors")
    monkeypatch.setattr(companions, "FOLDER", tmp_path)
    if device == "cpu":
        read = Matrix.read
        monkeypatch.setattr(Matrix, "read", lambda self, dtype, _: read(self, dtype, torch.device("cpu")))
        monkeypatch.setattr(model.Decoder, "device", torch.device("cuda"))
    switch = companions.attach_adapter(decoder, path, "1234")
    assert isinstance(switch, lora_bits.Rounded) and switch.on
