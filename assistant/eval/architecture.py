"""What the parts of an architecture are worth: experts by threshold, positions past the trained length, bits.

All on text that was not trained on, left to right, without validator or prompt: what the decoder alone makes of it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional as F

import model
from model import Decoder, Tokenizer
from model.feed_forward.moe import activated, mixtures, set_routing_strategy
from model.train import lines

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def score(decoder: Decoder) -> lines.Score:
    """The decoder as `lines.measure` asks it."""

    def scored(ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = decoder.head(decoder.hidden(ids.to(decoder.device)))[0]
        return logits

    return scored


@contextmanager
def variant(folder: Path, **changes: Any) -> Iterator[Path]:
    """The same checkpoint with another configuration: keys of config.json, None for none, weights as they are."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    with TemporaryDirectory() as made:
        for file in folder.iterdir():
            if file.name != "config.json":
                os.symlink(file.resolve(), Path(made) / file.name)
        (Path(made) / "config.json").write_text(json.dumps(kept), encoding="utf-8")
        yield Path(made)


@dataclass(frozen=True)
class Routed:
    """Texts with one routing strategy."""

    strategy: str
    active: float
    """Routed experts of a token, on average over tokens and layers."""
    share: float
    """The same of all experts."""
    bits_per_byte: float
    exact: float
    """Share of lines that the decoder would have written itself."""


def routing(decoder: Decoder, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Routed]:
    """The strategies of the article's API: as trained, by threshold with dense fallback, and all experts."""
    mixture = next(mixtures(decoder), None)
    if mixture is None:
        return []
    strategies = [("as trained", 0.0, "topk")]
    strategies += [(f"threshold {t}, dense", t, "dense") for t in THRESHOLDS]
    strategies += [(f"threshold {t}, top-k", t, "topk") for t in THRESHOLDS]
    found = []
    for name, threshold, fallback in [*strategies, ("all experts", 1.0, "dense")]:
        set_routing_strategy(decoder, threshold, fallback)
        for one in mixtures(decoder):
            one.router.counted.reset()
        result = lines.measure(score(decoder), tokenizer, texts)
        experts = activated(decoder)
        found.append(
            Routed(
                name,
                round(experts, 3),
                round(experts / mixture.count, 4),
                round(result.bits_per_byte, 4),
                round(result.exact_share, 4),
            )
        )
    set_routing_strategy(decoder, 0.0, "topk")
    return found


@torch.inference_mode()
def loss_by_position(decoder: Decoder, ids: Sequence[int], lengths: Sequence[int], piece: int = 1024) -> list[float]:
    """Nats a token between each two of `lengths` (the first span begins at 0), of one long text."""
    cache = decoder.new_cache(len(ids))
    row = torch.tensor([ids], device=decoder.device)
    losses = []
    for start in range(0, len(ids) - 1, piece):
        some = row[:, start : min(start + piece, len(ids) - 1)]
        logits = decoder.head(decoder.hidden(some, cache))[0]
        wanted = row[0, start + 1 : start + 1 + some.shape[1]]
        losses.append(F.cross_entropy(logits.float(), wanted, reduction="none"))
    each = torch.cat(losses)
    bounds = [0, *lengths]
    return [float(each[a:b].mean()) for a, b in pairwise(bounds) if b > a and a < len(each)]


def passkey(
    filler: str, length: int, place: float, random: Random, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """A prompt of about `length` tokens that hides a number at the share `place` of it, and the number's ids."""
    key = "".join(random.choice("0123456789") for _ in range(5))
    hidden = f'\n\nPASSKEY = "{key}"\n\n\n'
    asked = '\n\n\ndef test_passkey():\n    assert PASSKEY == "'
    ids, kept, end = (tokenizer.encode(text) for text in (filler, hidden, asked))
    room = length - len(kept) - len(end) - 8
    before = int(room * place)
    start = random.randrange(max(len(ids) - room, 1))
    body = ids[start : start + room]
    return [*body[:before], *kept, *body[before:], *end], tokenizer.encode(key)


@torch.inference_mode()
def retrieved(decoder: Decoder, prompt: Sequence[int], key: Sequence[int], piece: int = 1024) -> bool:
    """Is every digit of the key the decoder's best token, one after the other?"""
    ids = torch.tensor([[*prompt, *key]], device=decoder.device)
    cache = decoder.new_cache(ids.shape[1])
    for start in range(0, len(prompt) - 1, piece):
        decoder.hidden(ids[:, start : min(start + piece, len(prompt) - 1)], cache)
    logits = decoder.head(decoder.hidden(ids[:, len(prompt) - 1 : -1], cache))[0]
    return bool((logits.argmax(-1) == ids[0, len(prompt) :]).all())


@dataclass(frozen=True)
class Positions:
    """One way to see positions, on one long text and on hidden numbers."""

    name: str
    losses: Mapping[int, float]
    """Nats a token in the span that ends at so many tokens."""
    passkeys: Mapping[int, float]
    """Share of the numbers that were found, by the length of the text they were hidden in."""


def positions(
    folder: Path, device: str, texts: Sequence[str], longest: int, tries: int, seed: int,
    said: Callable[[str], None] = lambda line: None,
) -> list[Positions]:  # fmt: skip
    """With the checkpoint's own grouped positions, and without any. said: is told what is known so far."""
    tokenizer = model.load_tokenizer(folder)
    joined = "\n\n".join(texts)
    ids = tokenizer.encode(joined)[:longest]
    lengths = [2**i for i in range(10, int(math.log2(max(len(ids), 1024))) + 1)]
    found = []
    for name, changes in (("grouped", {}), ("plain", {"grouped_positions": None})):
        with variant(folder, max_position_embeddings=max(longest, 4096), **changes) as path:
            decoder = model.load(path, device)
            losses = dict(zip(lengths, loss_by_position(decoder, ids, lengths), strict=False))
            said(
                f"{name}: nats a token up to  " + "  ".join(f"{length}: {loss:.3f}" for length, loss in losses.items())
            )
            passkeys = {}
            for length in lengths[1:]:
                random = Random(f"{seed} {length}")
                hits = [
                    retrieved(decoder, *passkey(joined, length, (i + 0.5) / tries, random, tokenizer))
                    for i in range(tries)
                ]
                passkeys[length] = round(sum(hits) / tries, 3)
                said(f"{name}: numbers found in    {length}: {passkeys[length]:.0%}")
            found.append(Positions(name, {k: round(v, 4) for k, v in losses.items()}, passkeys))
    return found


def cache_bytes(decoder: Decoder) -> dict[str, int]:
    """Bytes that a token leaves in the cache: as it is, and with whole keys and values for every head, in 16 bits.

    With grouped positions, what is turned is kept twice in both.
    """
    config = decoder.config
    kept = sum(row.heads * row.width for layer in range(config.layers) for row in _rows(decoder, layer))
    key = config.head_width if config.latent is None else config.latent.plain_width + config.rope.width
    value = config.head_width if config.latent is None else config.latent.value_width
    key += config.rope.width if config.grouped else 0
    return {"kept": 2 * kept, "all heads": 2 * config.layers * config.heads * (key + value)}


def _rows(decoder: Decoder, layer: int) -> Sequence[Any]:
    from model.attention import attention

    return attention(decoder.config.attention).rows(decoder.config, layer)
