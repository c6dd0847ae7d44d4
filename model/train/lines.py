"""What a model makes of texts as they stand: bits per byte, and how many lines it would have written itself.

A line counts as written where every token of it, its line break included, is the model's best one after the true text
before it: exactly what greedy decoding from the line's beginning gives. So one pass over a text tells it for all lines.
No token here goes on behind a line break, so lines begin where tokens begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.tokenizer import Tokenizer

Score = Callable[[Tensor], Tensor]
"""ids [1, T] -> logits [T, V]"""


@dataclass(frozen=True)
class Found:
    """Sums over texts."""

    texts: int = 0
    bytes: int = 0
    bits: float = 0.0
    lines: int = 0
    """That are not blank and have a line before them."""
    exact: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(
            self.texts + other.texts, self.bytes + other.bytes, self.bits + other.bits, self.lines + other.lines,
            self.exact + other.exact,
        )  # fmt: skip

    @property
    def bits_per_byte(self) -> float:
        return self.bits / max(self.bytes, 1)

    @property
    def exact_share(self) -> float:
        return self.exact / max(self.lines, 1)


@torch.no_grad()
def measure(score: Score, tokenizer: Tokenizer, texts: Sequence[str], longest: int = 2048) -> Found:
    """The first `longest` tokens of each text."""
    found = Found()
    for text in texts:
        ids = tokenizer.encode(text)[:longest]
        if len(ids) >= 2:
            found += of_text(score, tokenizer, ids)
    return found


@torch.no_grad()
def fills(score: Score, prompt: Sequence[int], middle: Sequence[int]) -> bool:
    """Would greedy decoding from `prompt` write the ids `middle`, the end token among them, and nothing else?"""
    row = torch.tensor([[*prompt, *middle]])
    best = score(row[:, :-1])[len(prompt) - 1 :].argmax(-1)
    return best.tolist() == list(middle)


def of_text(score: Score, tokenizer: Tokenizer, ids: Sequence[int]) -> Found:
    """One text of at least two tokens, of which the first is given."""
    row = torch.tensor([ids])
    logits = score(row[:, :-1])
    wanted = row[0, 1:].to(logits.device)
    nats, right = [], []
    for some, these in zip(logits.split(512), wanted.split(512), strict=True):
        nats.append(float(F.cross_entropy(some.float(), these, reduction="sum")))
        right += (some.argmax(-1) == these).tolist()
    pieces = [tokenizer.pieces[i] or b"" for i in ids]
    lines = exact = 0
    begin: int | None = None
    for place, piece in enumerate(pieces):
        if not piece.endswith(b"\n"):
            continue
        if begin is not None and b"".join(pieces[begin : place + 1]).strip():
            lines += 1
            exact += all(right[begin - 1 : place])
        begin = place + 1
    return Found(1, sum(map(len, pieces[1:])), sum(nats) / math.log(2), lines, exact)
