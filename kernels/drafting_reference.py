"""What multi-token modules need between their layers, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.drafting import Joining
from kernels.embed_reference import embed
from kernels.keep_reference import keep
from kernels.ranking import Scores
from kernels.rms_norm_reference import rms_norm


def join_first(best: Tensor, block: Tensor, streams: Tensor, of: Joining, further: int) -> tuple[Tensor, Tensor]:
    start, agreed, last = int(block[0]), _agreed(best, block), len(streams) - 1
    plan = [agreed + 1, agreed + 2, 0, *(min(start + agreed + 1 + i, last) for i in range(further))]
    tokens = torch.cat([block[2:3], best[:, 0]])
    joined = _joined(streams[_places(start - 1, len(tokens), last)], tokens, of)
    return joined, torch.tensor(plan, dtype=torch.int32, device=best.device)


def join_second(
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, first: Tensor, states: Tensor,
    drafts: Tensor, of: Joining,
) -> Tensor:  # fmt: skip
    keep(first, block[:1] - 1, states)
    drafts[0] = ids[int(scores.logits.argmax())]
    tokens = torch.cat([block[2:3], best[:, 0], block[2:3]])
    tokens[int(plan[1])] = drafts[0]
    before = states[_places(int(block[0]) - 2, 1, len(states) - 1)]
    return _joined(torch.cat([before, first]), tokens, of)


def join_on(
    states: Tensor, at: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, number: int, of: Joining
) -> Tensor:
    drafts[number] = ids[int(scores.logits.argmax())]
    return _joined(states[at.long()], drafts[number : number + 1], of)


def settle(
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, capacity: int,
    said: Tensor, following: Tensor,
) -> None:  # fmt: skip
    agreed = int(plan[0]) - 1
    start = int(block[0]) + agreed + 1
    drafts[-1] = ids[int(scores.logits.argmax())]
    back = [min(max(start - i, 0), capacity) for i in (1, 2)]
    new = torch.tensor([start, 1 + len(drafts), int(best[agreed, 0]), *drafts.tolist(), *back], dtype=torch.int32)
    for to, numbers in ((block[: len(new)], new), (following, new), (said, best)):
        to.copy_(numbers)


def _agreed(best: Tensor, block: Tensor) -> int:
    """How many tokens behind the first the decoder would have written as well."""
    tokens = block[2 : 2 + int(block[1])].tolist()
    same = [int(mine) == token for mine, token in zip(best[:, 0], tokens[1:], strict=False)]
    return same.index(False) if False in same else len(same)


def _places(first: int, count: int, last: int) -> Tensor:
    return (first + torch.arange(count)).clamp(0, last)


def _joined(states: Tensor, tokens: Tensor, of: Joining) -> Tensor:
    if of.before:
        states = rms_norm(states, *of.before).float()
    of_state, of_token = of.gains
    embedded = embed(tokens, of.embedding)
    parts = [rms_norm(states, of_state.float(), of.eps), rms_norm(embedded, of_token.float(), of.eps)]
    return torch.cat(parts, -1).to(of_state.dtype)
