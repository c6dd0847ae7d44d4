"""How many tokens a pass gives when the MTP modules draft: on held-out code, as the decoder itself writes it.

The decoder answers greedily; the modules then draft along the answer, and the blocks that decoding would have made are
walked through. Nothing is decoded twice: what a kept draft is, the answer already says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model import Decoder
from model.mtp import MTP
from model.train.batched import generate

ROWS = 32


@dataclass(frozen=True)
class DraftResult:
    """What the drafts of a set of answers were worth."""

    answers: int
    tokens: int
    passes: int
    kept: tuple[float, ...]
    """Share of the passes in which the first 1, 2, … drafts were all kept."""

    @property
    def tokens_per_pass(self) -> float:
        return self.tokens / self.passes


@torch.inference_mode()
def measure(
    decoder: Decoder,
    mtp: MTP,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    end_ids: frozenset[int],
    rows: int = ROWS,
    beyond: int = 0,
) -> list[DraftResult]:
    """Answer `prompts` greedily, walk through the blocks: of one draft for each module, and of up to `beyond` more."""
    answers = generate(decoder, prompts, max_tokens=max_tokens, end_ids=end_ids)
    head = mtp.head_rows(decoder)
    depths = range(mtp.config.depth, mtp.config.depth + beyond + 1)
    blocks: dict[int, list[int]] = {depth: [] for depth in depths}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))
    for start in range(0, len(order), rows):
        texts = [[*prompts[i], *answers[i]] for i in order[start : start + rows]]
        right = _right(decoder, mtp, head, texts, beyond)
        for row, i in enumerate(order[start : start + rows]):
            first = len(prompts[i])
            masks = [mask[row].tolist() for mask in right]
            for depth, counts in blocks.items():
                counts += walk(masks[:depth], first, first + len(answers[i]))
    return [_result(len(prompts), depth, counts) for depth, counts in blocks.items()]


def _result(answers: int, depth: int, counts: Sequence[int]) -> DraftResult:
    kept = (sum(count > k for count in counts) / max(len(counts), 1) for k in range(1, depth + 1))
    return DraftResult(answers, sum(counts), len(counts), tuple(round(share, 4) for share in kept))


def _right(decoder: Decoder, mtp: MTP, head: Tensor, texts: list[list[int]], beyond: int) -> list[Tensor]:
    """Per depth [B, T]: is what is drafted for the token at a place the token that stands there?"""
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts], device=decoder.device)
    states = mtp.states(decoder, ids, decoder.hidden(ids), beyond)
    found = []
    for depth, state in enumerate(states):
        drafted = torch.stack([mtp.ids[mtp.logits(depth, row, head).argmax(-1)] for row in state])
        # Depth k (from 0) at position t drafts the token at t + k + 2.
        mask = torch.zeros_like(ids, dtype=torch.bool)
        mask[:, depth + 2 :] = drafted[:, :-1] == ids[:, depth + 2 :]
        found.append(mask.cpu())
    return found


def walk(right: Sequence[Sequence[bool]], first: int, end: int) -> list[int]:
    """Tokens that each pass gives from place `first` to `end`.

    right[k][t]: is the draft of depth k for place t right?

    A block drafts the places t, t + 1, …, one per depth, and the pass gives one token more than drafts are kept.
    """
    counts = []
    place = first
    while place < end:
        kept = 0
        while kept < len(right) and place + kept < end and right[kept][place + kept]:
            kept += 1
        counts.append(min(kept + 1, end - place))
        place += kept + 1
    return counts
