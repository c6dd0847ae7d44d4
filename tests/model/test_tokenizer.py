"""Vocabularies: text to ids and back, from either kind of file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HubTokenizer

import model
from tests.tiny import tokens, write_tiny_gguf, write_tiny_safetensors

CODE = 'def f(x):\n    """naïve — 数"""\n\treturn x  # \U0001f600\r\n\n\n    if True:\n        return 12345\n'


@pytest.fixture(scope="module", params=["gguf", "folder", "bytes"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> model.Tokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    if request.param == "bytes":
        return model.ByteTokenizer()
    write = write_tiny_gguf if request.param == "gguf" else write_tiny_safetensors
    return model.load_tokenizer(write(folder))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.text(st.sampled_from(' \n\tdefreturn<|endoftext|>"é数')))
def test_text_comes_back_and_holds_no_special(tokenizer: model.Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.specials.values())


def test_the_names_of_specials_are_plain_text(tokenizer: model.Tokenizer) -> None:
    for name, special in tokenizer.specials.items():
        ids = tokenizer.encode(name)
        assert special not in ids and tokenizer.decode(ids) == name
        assert tokenizer.pieces[special] is None and tokenizer.decode([special]) == ""


def test_pieces_join_to_the_text(tokenizer: model.Tokenizer) -> None:
    pieces = [tokenizer.pieces[i] for i in tokenizer.encode(CODE)]
    assert b"".join(piece for piece in pieces if piece is not None) == CODE.encode()
    assert len(tokenizer.pieces) == tokenizer.vocab_size


def test_half_a_character_is_shown_as_such(tokenizer: model.Tokenizer) -> None:
    ids = tokenizer.encode("数")
    assert len(ids) == 3
    assert tokenizer.decode(ids[:2]) == "�"


def test_lone_surrogates_become_question_marks(tokenizer: model.Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_specials(tokenizer: model.Tokenizer) -> None:
    named = tokenizer.specials
    assert tokenizer.end_ids == {named["<|endoftext|>"]}
    names = ("fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "repo_name", "file_sep")
    assert tokenizer.fim is not None
    assert list(tokenizer.fim) == [named[f"<|{name}|>"] for name in names]


def test_both_files_give_the_same_vocabulary(tmp_path: Path) -> None:
    gguf = model.load_tokenizer(write_tiny_gguf(tmp_path))
    folder = model.load_tokenizer(write_tiny_safetensors(tmp_path))
    assert list(gguf.pieces) == list(folder.pieces)
    assert gguf.encode(CODE) == folder.encode(CODE)
    assert len(gguf.pieces) == len(tokens())
    assert gguf.pieces[-1] is None  # unused


def test_merges_are_applied(tmp_path: Path) -> None:
    tokenizer = model.load_tokenizer(write_tiny_gguf(tmp_path))
    ids = tokenizer.encode("def x: return")
    assert [tokenizer.pieces[i] for i in ids] == [b"def", b" ", b"x", b":", b" ", b"return"]


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("text", [CODE, "it's 2024, I'LL\n\n  x", "   \n \n", "a1234567b", "\t\t\tx", "=" * 99])
def test_the_same_ids_as_the_tokenizers_library(tmp_path: Path, family: str, text: str) -> None:
    folder = write_tiny_safetensors(tmp_path, family=family)
    theirs = HubTokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    assert model.load_tokenizer(folder).encode(text) == theirs
    assert model.load_tokenizer(write_tiny_gguf(tmp_path, family=family)).encode(text) == theirs


def change_json(path: Path, **changes: object) -> Path:
    file = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    (path / "tokenizer.json").write_text(json.dumps({**file, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"type": "Unigram", "vocab": {}}}, "not byte-level BPE"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "not byte-level BPE"),
        ({"model": None}, "has no vocabulary"),
        ({"added_tokens": [{"content": "x"}]}, r"tokenizer\.json"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}, r"tokenizer\.json"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(model.ModelError, match=words):
        model.load_tokenizer(change_json(write_tiny_safetensors(tmp_path), **changes))


def text(value: str) -> bytes:
    """As GGUF spells a string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (text("gpt2"), text("rwkv"), "tokenizer 'rwkv' is not supported"),
        (
            b"tokenizer.ggml.pre" + struct.pack("<I", 8) + text("qwen2"),
            b"tokenizer.ggml.pre" + struct.pack("<I", 8) + text("quirk"),
            "pre-tokenizer 'quirk'",
        ),
        (b"tokenizer.ggml.merges", b"tokenizer.ggml.merger", "merges is missing"),
        (text("Ġ Ġ"), text("Ġ_Ġ"), "does not name two tokens"),
        (text("d e"), text("d ="), "merges do not fit"),
    ],
)
def test_gguf_vocabularies_that_cannot_be(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    path = write_tiny_gguf(tmp_path)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(model.ModelError, match=words):
        model.load_tokenizer(path)
