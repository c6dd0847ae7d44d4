"""Weights in fewer bits: what rounding costs, and decoders made of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import kernels
import model
from kernels import native
from kernels.stored import pack_stored
from model.loaders.gguf import GGUF
from model.quantised import Int8Linear, StoredEmbedding, to_int8
from tests.tiny import Shape, write_tiny_gguf, write_tiny_safetensors

IDS = torch.randint(256, (1, 97), generator=torch.Generator().manual_seed(5))


def relative_rms(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).pow(2).mean().sqrt() / theirs.pow(2).mean().sqrt())


def gaussian(rows: int = 40, columns: int = 128) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(2))


def test_int8_rounds_to_half_a_step() -> None:
    rows = gaussian()
    rows[3] = 0
    codes, scales = to_int8(rows)
    assert codes.abs().max() == 127
    assert ((codes * scales[:, None] - rows).abs() <= scales[:, None] / 2 * 1.0001).all()
    assert (codes[3] == 0).all()


# (dtype, relative RMS of the logits): random weights are a hard case, since no direction matters more than others.
BOUNDS = [("int8", 0.05), ("int4", 0.3)]


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
@pytest.mark.parametrize("shape", [Shape(), Shape("llama", tied=True), Shape(width=48, feed_forward=72)])
def test_logits_stay_near(tmp_path: Path, shape: Shape, dtype: str, bound: float) -> None:
    path = write_tiny_safetensors(tmp_path, shape)
    expected = model.load(path, dtype="float32")(IDS)
    assert relative_rms(model.load(path, dtype=dtype)(IDS), expected) <= bound


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_0", "Q4_0"])
def test_gguf_kinds(tmp_path: Path, kind: str) -> None:
    path = write_tiny_gguf(tmp_path, kind=kind)
    expected = model.load(path, dtype="float32")(IDS)
    assert relative_rms(model.load(path, dtype="auto")(IDS), expected) <= 0.05
    assert isinstance(model.load(path).projection, Int8Linear)


def test_auto_keeps_what_the_file_has(tmp_path: Path) -> None:
    plain = model.load(write_tiny_safetensors(tmp_path))
    half = model.load(write_tiny_safetensors(tmp_path / "half", dtype=torch.bfloat16))
    assert plain.norm.weight.dtype == torch.float32 and not isinstance(plain.projection, Int8Linear)
    assert isinstance(half.projection, Int8Linear) and isinstance(half.embedding, StoredEmbedding)


def test_embeddings_are_looked_up_where_they_are_stored(tmp_path: Path) -> None:
    for kind in ("F32", "F16", "Q5_0"):
        path = write_tiny_gguf(tmp_path, kind=kind)
        dense, stored = (model.load(path, dtype=dtype).embedding(IDS) for dtype in ("float32", "int8"))
        assert torch.equal(dense, stored)


@pytest.mark.parametrize("count", [2, 3, 8])
@torch.inference_mode()
def test_a_block_scores_as_its_tokens_one_by_one(tmp_path: Path, count: int) -> None:
    decoder = model.load(write_tiny_gguf(tmp_path, kind="Q8_0"))
    cache = decoder.new_cache(128)
    decoder.hidden(IDS[:, :40], cache)
    block = decoder.head(decoder.hidden(IDS[:, 40 : 40 + count], cache))
    cache.truncate(40)
    single = torch.cat([decoder.head(decoder.hidden(IDS[:, i : i + 1], cache)) for i in range(40, 40 + count)], 1)
    assert torch.equal(block, single)


@pytest.mark.parametrize(("noise", "one"), [(0.1, True), (1.5, False)])
def test_a_matrix_that_is_kept_twice_is_the_heads(tmp_path: Path, noise: float, one: bool) -> None:
    folder = write_tiny_safetensors(tmp_path, Shape())
    tensors = load_file(folder / "model.safetensors")
    head = tensors["lm_head.weight"]
    near = head + noise * head.std() * gaussian(*head.shape)
    save_file(tensors | {"model.embed_tokens.weight": near}, folder / "model.safetensors")
    expected = (head if one else near)[IDS]
    assert torch.equal(model.load(folder, dtype="float32").embedding(IDS), expected)
    assert torch.equal(model.load(folder, dtype="int8").embedding(IDS), expected)
    parameters = model.load(folder, dtype="float32").named_parameters()
    assert ("projection.weight" in dict(parameters)) is not one


def test_several_threads_make_what_one_makes(tmp_path: Path) -> None:
    path = write_tiny_safetensors(tmp_path, Shape(layers=4))
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found.append(model.load(path, dtype="int8")(IDS))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*found)


def test_a_file_is_read_once_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path)
    read = []
    header = GGUF._read_header
    monkeypatch.setattr(GGUF, "_read_header", lambda file: read.append(file.path) or header(file))
    with model.held(path):
        model.load(path)
        model.load_tokenizer(path)
    assert len(read) == 1
    with model.held(path):
        write_tiny_gguf(tmp_path, Shape(layers=3))  # another file in its place
        assert model.load(path).config.layers == 3
    assert len(read) == 3


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q5_0", "Q8_0"])
@pytest.mark.skipif(not native.lanes(), reason="no such instructions here")
def test_a_file_is_rounded_as_its_numbers_are(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path, kind=kind, width=128, feed_forward=192)
    packed = []

    def watched(shape: tuple[int, ...], slices: Iterable[tuple[int, str, Tensor]]) -> tuple[kernels.Packed, Tensor]:
        packed.append(shape)
        return pack_stored(shape, slices)

    monkeypatch.setattr("kernels.pack_stored", watched)
    at_once = model.load(path, dtype="int8")
    assert sorted(packed) == [(128, 128)] * 2 + [(128, 192)] * 2 + [(256, 128)] * 2 + [(384, 128)] * 2
    monkeypatch.setattr("kernels.packs_stored", lambda shape, parts: False)
    step_by_step = model.load(path, dtype="int8")
    assert len(packed) == 8
    ids = IDS % at_once.config.vocab_size
    assert torch.equal(at_once(ids), step_by_step(ids))
