"""A part of a byte-level BPE vocabulary that is itself a vocabulary.

Kept are all 256 bytes, the most frequent tokens, and whatever those are merged from; so every kept merge finds its two
halves. A text whose tokens are all kept is cut exactly as the whole vocabulary cuts it: each merge on the way there is
kept, and no other merge has become possible. Text with other tokens stays in the pieces that they would have been
merged from, single bytes at worst. Source of the procedure: Sennrich et al., "Neural Machine Translation of Rare Words
with Subword Units", 2016, section 3.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import BadModelFile, ModelUsageError
from model.loaders.vocabulary import BYTE_ALPHABET, CUTS
from model.tokenizer import ByteTokenizer

SPECIALS = ByteTokenizer.NAMES
"""What else is in it, behind the text: the end of a text and the marks of a gap."""

MAP = "base-ids.npy"
"""The ids that the tokens have in the vocabulary they were taken from."""


@dataclass(frozen=True)
class Vocabulary:
    """tokens: spelled in the byte alphabet, in the order of their new ids. base_ids: their old ids, specials last."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    base_ids: tuple[int, ...]
    cut: str
    """How text is cut before merging, a regular expression."""

    @property
    def size(self) -> int:
        return len(self.tokens) + len(SPECIALS)


def subset(metadata: Mapping[str, Any], frequent: Iterable[int], size: int) -> Vocabulary:
    """`size` tokens, specials included, of the vocabulary in a GGUF file's metadata.

    frequent: its ids, the most frequent first. ModelUsageError where it has no such specials or too few tokens.
    """
    all_tokens: Sequence[str] = metadata["tokenizer.ggml.tokens"]
    merges = [_pair(text) for text in metadata["tokenizer.ggml.merges"]]
    cut = metadata.get("tokenizer.ggml.pre", "default")
    ids = {token: i for i, token in enumerate(all_tokens)}
    missing = [name for name in SPECIALS if name not in ids]
    if missing:
        raise ModelUsageError(f"the vocabulary has no {', '.join(missing)}")
    halves: dict[str, tuple[str, str]] = {}
    for pair in merges:
        halves.setdefault("".join(pair), pair)
    kept = set(BYTE_ALPHABET)
    room = size - len(SPECIALS)
    for i in frequent:
        needed = _ancestry(all_tokens[i], halves, kept)
        if needed is not None and len(kept) + len(needed) <= room:
            kept |= needed
        if len(kept) == room:
            break
    if len(kept) != room:
        raise ModelUsageError(f"{len(kept) + len(SPECIALS)} tokens of {len(all_tokens)}, not {size}")
    tokens = sorted(kept, key=ids.__getitem__)
    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(pair for pair in merges if "".join(pair) in kept and kept.issuperset(pair)),
        base_ids=tuple(ids[token] for token in (*tokens, *SPECIALS)),
        cut=CUTS[cut],
    )


def _pair(text: str) -> tuple[str, str]:
    left, _, right = text.partition(" ")
    return left, right


def _ancestry(token: str, halves: Mapping[str, tuple[str, str]], kept: set[str]) -> set[str] | None:
    """What is not kept yet of a token and of all that it is merged from; None if it is not merged from bytes."""
    needed: set[str] = set()
    open_ = [token]
    while open_:
        one = open_.pop()
        if one in kept or one in needed:
            continue
        if one not in halves:
            return None
        needed.add(one)
        open_ += halves[one]
    return needed


def write(vocabulary: Vocabulary, folder: Path) -> None:
    """As `tokenizer.json`, which every tokenizer library reads, and the old ids beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first = len(vocabulary.tokens)
    split = {"type": "Split", "pattern": {"Regex": vocabulary.cut}, "behavior": "Isolated", "invert": False}
    levels = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": first + i, "content": name, **flags} for i, name in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, levels]},
        "post_processor": None,
        "decoder": levels,
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(vocabulary.tokens)},
            "merges": [" ".join(pair) for pair in vocabulary.merges],
        },
    }
    text = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    np.save(folder / MAP, np.array(vocabulary.base_ids, dtype=np.int32))


def base_ids(folder: Path) -> npt.NDArray[np.int32]:
    """The ids [V] that our tokens have in the vocabulary they were taken from: for drafting and for distilling."""
    found: npt.NDArray[np.int32] = np.load(folder / MAP)
    if found.ndim != 1 or len(np.unique(found)) != len(found):
        raise BadModelFile(f"{MAP} does not give every token an id of its own")
    return found
