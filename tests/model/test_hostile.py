"""Files that lie: each is refused with one line, quickly, and without a large allocation."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import model
from model.loaders.gguf import GGUF
from tests.tiny import write_tiny_gguf, write_tiny_safetensors


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("good"), layers=1, width=32, feed_forward=32).read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "file.gguf"


def header_end(data: bytes) -> int:
    return data.index(b"output_norm.weight") + 60


def attempt(path: Path) -> None:
    """Load it all. Anything but success or a ModelError of one line is a failure."""
    try:
        model.load(path)(torch.tensor([[1, 2]]))
        model.load_tokenizer(path).encode("def f(x):\n\treturn x")
    except model.ModelError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 600


FUZZ = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_changed_bytes(good: bytes, place: Path, data: st.DataObject) -> None:
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header_end(good)))
        new = data.draw(st.binary(min_size=1, max_size=8))
        changed[at : at + len(new)] = new
    place.write_bytes(changed)
    attempt(place)


@settings(FUZZ, max_examples=60)
@given(size=st.integers(0, 1 << 20))
def test_cut_short(good: bytes, place: Path, size: int) -> None:
    place.write_bytes(good[: size % len(good)])
    with pytest.raises(model.ModelError):
        model.load(place)


@settings(FUZZ, max_examples=60)
@given(at=st.integers(8, 4000), value=st.sampled_from([2**63, 2**64 - 1, 2**40, 2**32 - 1, 1 << 22]))
def test_huge_numbers_allocate_nothing(good: bytes, place: Path, at: int, value: int) -> None:
    place.write_bytes(good[:at] + struct.pack("<Q", value) + good[at + 8 :])
    tracemalloc.start()
    try:
        attempt(place)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def key(name: str, kind: int) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind)


def tensor_kind(name: str, kind: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        start = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
        (dimensions,) = struct.unpack_from("<I", data, start)
        at = start + 4 + 8 * dimensions
        return data[:at] + struct.pack("<I", kind) + data[at + 4 :]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "cannot read"),
        (lambda data: b"GGU", "truncated"),
        (lambda data: b"PK\3\4" + data[4:], "not a GGUF file"),
        (lambda data: data[:4] + struct.pack("<I", 9) + data[8:], "version 9"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "big-endian"),
        (lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:], "1,152,921,504,606,846,976 tensors cannot be"),
        (lambda data: data[:16] + struct.pack("<Q", 60_000) + data[24:], "60,000 metadata entries cannot be"),
        (lambda data: data[:24] + struct.pack("<Q", 2**50) + data[32:], "a metadata key is"),
        (lambda data: data[:-1], "output_norm.weight|token_embd.weight|truncated"),
        (replaced(b"qwen2.block_count", b"qwen2.context_len"), "context_len|block_count"),
        (replaced(key("qwen2.block_count", 4), key("qwen2.block_count", 77)), "type 77"),
        (replaced(b"\x05\0\0\0\0\0\0\0qwen2", b"\x05\0\0\0\0\0\0\0gpt_x"), "family 'gpt_x'"),
        (replaced(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"), "missing tensor: blk.0.attn_q.weight"),
        (tensor_kind("blk.0.attn_q.weight", 10), r"blk.0.attn_q.weight is stored as kind 10 \(Q2_K\)"),
        (tensor_kind("blk.0.attn_q.weight", 12), "not whole blocks of 256"),
        (replaced(b"ffn_up.weight", b"ffn_gate.weight"[:13]), "appears twice|missing|GGUF"),
    ],
)
def test_refusals_name_what_is_wrong(good: bytes, place: Path, change: Callable[[bytes], bytes], words: str) -> None:
    place.write_bytes(change(good))
    with pytest.raises(model.ModelError, match=words) as caught:
        model.load(place)
    assert "\n" not in str(caught.value)


def test_a_name_cannot_write_to_the_terminal(good: bytes, place: Path) -> None:
    place.write_bytes(good.replace(b"blk.0.attn_q.weight", b"blk.0.\x1b[31m.weight\n\n", 1))
    with pytest.raises(model.ModelError) as caught:
        model.load(place)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_weights_that_are_no_numbers(tmp_path: Path, poison: float, dtype: str) -> None:
    folder = write_tiny_safetensors(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = poison
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(model.BadWeights, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinity"):
        model.load(folder, dtype=dtype)


def edit(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("model.norm.weight"), "1 missing tensor: model.norm.weight"),
        (lambda w: w.update({"model.extra.weight": torch.zeros(2)}), "1 unknown tensor: model.extra.weight"),
        (
            lambda w: w.update({"lm_head.weight": torch.zeros(3, 64)}),
            r"lm_head.weight has shape \[3, 64\], not \[279, 64\]",
        ),
        (lambda w: w.update({"lm_head.weight": torch.zeros(279, 64, dtype=torch.int8)}), "stored as I8"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], words: str) -> None:
    folder = write_tiny_safetensors(tmp_path)
    edit(folder, "model.safetensors", change)
    with pytest.raises(model.ModelError, match=words):
        model.load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "family 'mamba' is not supported"),
        ({"model_type": 3}, "model_type is 3"),
        ({"hidden_size": "64"}, "hidden_size is '64', not a whole number"),
        ({"num_hidden_layers": 10**9}, "layers is 1000000000"),
        ({"num_attention_heads": 0}, "head"),
        ({"num_key_value_heads": 3}, "4 query heads cannot be shared"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"use_sliding_window": True, "max_window_layers": 1}, "a sliding window in the layers from 1 on"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, "rotary scaling 'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "original_max_position_embeddings is missing"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 0.0}}, "low_freq_factor is missing"),
    ],
)
def test_configurations_that_cannot_be(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    folder = write_tiny_safetensors(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(model.ModelError, match=words):
        model.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_json_that_is_none(tmp_path: Path, name: str, text: str) -> None:
    folder = write_tiny_safetensors(tmp_path)
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    read = model.load_tokenizer if name == "tokenizer.json" else model.load
    with pytest.raises(model.BadModelFile, match=name):
        read(folder)


def test_an_index_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    folder = write_tiny_safetensors(tmp_path)
    index = {"weight_map": {"x": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(model.BadModelFile, match="points outside"):
        model.load(folder)


def test_safetensors_cut_short(tmp_path: Path) -> None:
    folder = write_tiny_safetensors(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(model.BadModelFile, match=r"model\.safetensors"):
        model.load(folder)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(model.ModelNotFound, match="no such file"):
        model.load(tmp_path / "nothing.gguf")
    with pytest.raises(model.ModelNotFound, match=r"config\.json"):
        model.load(tmp_path)
    with pytest.raises(model.ModelNotFound, match=r"tokenizer\.json"):
        model.load_tokenizer(tmp_path)
    with pytest.raises(model.ModelNotFound, match="give the folder"):
        model.load(write_tiny_safetensors(tmp_path) / "model.safetensors")


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path)
    opened = GGUF(path)
    path.write_bytes(path.read_bytes()[: opened.tensors["output_norm.weight"].start - 1])
    with pytest.raises(model.BadModelFile, match=r"output_norm\.weight cannot be read"):
        opened.rows("output_norm.weight", 0, 1)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"device": "tpu"}, "tpu"),
        ({"device": "meta"}, "'meta' is not supported"),
        ({"dtype": "float8"}, "dtype 'float8' is not known"),
    ],
)
def test_misuse(tmp_path: Path, asked: dict[str, str], words: str) -> None:
    with pytest.raises(model.ModelUsageError, match=words):
        model.load(write_tiny_gguf(tmp_path), **asked)
