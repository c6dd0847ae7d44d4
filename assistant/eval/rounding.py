"""What weights in few bits change: one decoder beside another of the same checkpoint, on texts as they stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from model import Tokenizer
from model.train.lines import Score

SKIPPED = 8
"""Positions at a text's beginning that do not count: there is next to nothing before them."""


@dataclass(frozen=True)
class Apart:
    """Means over the positions of all texts."""

    positions: int
    divergence: float
    """Kullback–Leibler divergence of the next token, from the exact decoder's distribution to the other's: nats."""
    same: float
    """Share where both have the same best token."""
    bits_per_byte: float
    exact_bits_per_byte: float


@torch.no_grad()
def apart(exact: Score, other: Score, tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Apart:
    """The first `longest` tokens of each text that has more than SKIPPED + 1."""
    count, size = 0, 0
    sums = torch.zeros(4, dtype=torch.float64)
    for text in texts:
        ids = tokenizer.encode(text)[:longest]
        if len(ids) <= SKIPPED + 1:
            continue
        row = torch.tensor([ids])
        ours, theirs = (score(row[:, :-1])[SKIPPED:].float().cpu().log_softmax(-1) for score in (other, exact))
        wanted = row[0, SKIPPED + 1 :]
        sums[0] += F.kl_div(ours, theirs, reduction="sum", log_target=True)
        sums[1] += (ours.argmax(-1) == theirs.argmax(-1)).sum()
        for place, found in ((2, ours), (3, theirs)):
            sums[place] += F.nll_loss(found, wanted, reduction="sum") / math.log(2)
        count += len(wanted)
        size += sum(len(tokenizer.pieces[i] or b"") for i in wanted.tolist())
    divergence, same = (sums[:2] / max(count, 1)).tolist()
    bits, exact_bits = (sums[2:] / max(size, 1)).tolist()
    return Apart(count, divergence, same, bits, exact_bits)
