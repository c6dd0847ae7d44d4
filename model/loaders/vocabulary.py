"""Tokenizers from files: byte-level BPE in GGUF metadata or in `tokenizer.json`.

Text is never normalised: Qwen's own tokenizer composes accents first (NFC), which would change what stands in a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, models, pre_tokenizers

from model.config.model import LARGEST
from model.errors import BadModelFile, ModelNotFound, UnsupportedModel, printable
from model.loaders.files import read_json
from model.loaders.gguf import opened
from model.tokenizer import Tokenizer, end_tokens, fim_tokens

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# How text is cut before merging, by the name in `tokenizer.ggml.pre`; from the models' published tokenizer.json.
CUTS = {
    "qwen2": rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_TAIL}",
    "llama-bpe": rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_TAIL}",
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
CUTS["llama3"] = CUTS["llama-v3"] = CUTS["llama-bpe"]
CUTS["default"] = CUTS["gpt-2"]

PREFIX_FIRST, SUFFIX_FIRST = "prefix-first", "suffix-first"
"""What `gap_order` in a folder's config.json says a model reads first of a gap; suffix-first is said by ours alone."""

_NORMAL, _CONTROL, _USER, _BYTE = 1, 3, 4, 6  # tokenizer.ggml.token_type


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF file or of a folder with `tokenizer.json`."""
    path = Path(path)
    if not path.exists():
        raise ModelNotFound(f"no such file or folder: {path}")
    return _from_folder(path) if path.is_dir() else from_gguf(opened(path).metadata)


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file carries in its metadata."""
    read = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    model = read.get("model")
    if model != "gpt2":
        raise UnsupportedModel(
            f"tokenizer '{printable(str(model))}' is not supported (known: gpt2, that is byte-level BPE)"
        )
    cut = read.get("pre", "default")
    if cut not in CUTS:
        raise UnsupportedModel(
            f"pre-tokenizer '{printable(str(cut))}' is not supported (known: {', '.join(sorted(CUTS))})"
        )
    tokens, merges = _strings(read, "tokens"), _strings(read, "merges")
    kinds = read.get("token_type", [_NORMAL] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise BadModelFile(f"{len(tokens)} tokens, but not as many token types")
    text = {token: i for i, token in enumerate(tokens) if kinds[i] == _NORMAL}
    literal = {token: i for i, token in enumerate(tokens) if kinds[i] == _USER}
    specials = {token: i for i, token in enumerate(tokens) if kinds[i] == _CONTROL}
    encoder = tokenizers.Tokenizer(_bpe(text, merges))
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CUTS[cut]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ends = [read.get(key) for key in ("eos_token_id", "eot_token_id", "eom_token_id")]
    return _assemble(encoder, len(tokens), text, literal, specials, ends)


def _from_folder(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelNotFound(f"{folder} has no tokenizer.json")
    file = read_json(path)
    model, added = file.get("model"), file.get("added_tokens") or []
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or not isinstance(added, list):
        raise BadModelFile(f"{path.name} has no vocabulary")
    if model.get("type", "BPE") != "BPE" or not _byte_level(file.get("pre_tokenizer")):
        raise UnsupportedModel(f"{path.name} is not byte-level BPE, the only kind that is supported")
    # Without its added tokens no text can be encoded as special; without the rest, none is changed, cut or filled up.
    unchanged = dict.fromkeys(("normalizer", "post_processor", "truncation", "padding"))
    bare = {**file, "added_tokens": [], **unchanged}
    try:
        encoder = tokenizers.Tokenizer.from_str(json.dumps(bare))
        known = {str(item["content"]): (int(item["id"]), bool(item["special"])) for item in added}
    except Exception as error:  # the library raises a bare Exception for what it cannot read
        raise BadModelFile(f"{path.name}: {error}") from None
    text = {token: i for token, i in encoder.get_vocab().items() if token not in known}
    specials = {token: i for token, (i, special) in known.items() if special or _framed(token)}
    literal = {token: i for token, (i, _) in known.items() if token not in specials}
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    ends = config.get("eos_token_id")
    rows = config.get("vocab_size")
    ids = [*text.values(), *literal.values(), *specials.values()]
    count = max(ids, default=-1) + 1
    if min(ids, default=0) < 0 or count > LARGEST["vocab_size"]:
        raise BadModelFile(
            f"{path.name} has ids from {min(ids)} to {max(ids)}; expected 0 to {LARGEST['vocab_size'] - 1}"
        )
    if isinstance(rows, int) and count < rows <= LARGEST["vocab_size"]:
        count = rows
    ends = ends if isinstance(ends, list) else [ends]
    order = config.get("gap_order") or PREFIX_FIRST
    if order not in (PREFIX_FIRST, SUFFIX_FIRST):
        raise UnsupportedModel(
            f"config.json: gap_order is {printable(repr(order))} (known: {PREFIX_FIRST}, {SUFFIX_FIRST})"
        )
    return _assemble(encoder, count, text, literal, specials, ends, order == SUFFIX_FIRST)


def _assemble(
    encoder: tokenizers.Tokenizer,
    count: int,
    text: Mapping[str, int],
    literal: Mapping[str, int],
    specials: Mapping[str, int],
    ends: Iterable[Any],
    suffix_first: bool = False,
) -> Tokenizer:
    """text: tokens spelled in GPT-2's byte alphabet. literal: tokens spelled as they are."""
    pieces: list[bytes | None] = [None] * count
    for token, i in text.items():
        pieces[i] = _spelled(token)
    for token, i in literal.items():
        pieces[i] = token.encode("utf-8")
    return Tokenizer(
        encoder=lambda value: list(encoder.encode(value, add_special_tokens=False).ids),
        pieces=pieces,
        specials=dict(specials),
        end_ids=end_tokens(specials, [i for i in ends if isinstance(i, int) and 0 <= i < count]),
        fim=fim_tokens({**literal, **specials}),
        suffix_first=suffix_first,
    )


def _bpe(vocabulary: dict[str, int], merges: list[str]) -> models.BPE:
    pairs = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not left or not right or " " in right:
            raise BadModelFile(f"merge {printable(merge)} does not name two tokens")
        pairs.append((left, right))
    try:
        return models.BPE(vocab=vocabulary, merges=pairs)
    except Exception as error:  # the library raises a bare Exception for a merge of unknown tokens
        raise BadModelFile(f"merges do not fit the vocabulary: {error}") from None


def _alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 is itself, the rest follows from U+0100."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}


BYTE_ALPHABET = _alphabet()


def _spelled(token: str) -> bytes:
    try:
        return bytes(map(BYTE_ALPHABET.__getitem__, token))
    except KeyError:
        raise BadModelFile(f"token {printable(token)} is not spelled in the byte alphabet") from None


def _framed(token: str) -> bool:
    # Qwen's tokenizer.json marks <|fim_prefix|> and its kin as not special; they stand for no text all the same.
    return token.startswith("<|") and token.endswith("|>")


def _byte_level(pre_tokenizer: Any) -> bool:
    if not isinstance(pre_tokenizer, dict):
        return False
    inner = pre_tokenizer.get("pretokenizers")
    steps = inner if isinstance(inner, list) else [pre_tokenizer]
    return any(isinstance(step, dict) and step.get("type") == "ByteLevel" for step in steps)


def _strings(read: Mapping[str, Any], key: str) -> list[str]:
    value = read.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadModelFile(f"tokenizer.ggml.{key} is missing or not a list of strings")
    return value
