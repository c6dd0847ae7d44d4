"""What multi-token modules need between their layers, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.drafting import LONGEST, REACH, Joining, Repetition
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
    best: Tensor, block: Tensor, plan: Tensor, scores: Scores, ids: Tensor, drafts: Tensor, repetition: Repetition,
    said: Tensor, following: Tensor,
) -> None:  # fmt: skip
    agreed, rows = int(plan[0]) - 1, len(best)
    start = int(block[0]) + agreed + 1
    drafts[-1] = ids[int(scores.logits.argmax())]
    pending = int(best[agreed, 0])
    proposed, drafted = drafts.tolist(), len(drafts)
    history = repetition.history
    if rows > 1 + drafted:
        new = [*block[2 : 3 + agreed].tolist(), pending, *proposed][: len(history) - int(block[0])]
        history[int(block[0]) : int(block[0]) + len(new)] = torch.tensor(new, dtype=torch.int32)
        known = history[: start + 1 + drafted].tolist()
        if copied := _repeated(known[: start + 1], repetition.certain, rows - 1):
            proposed, drafted = copied, 0
        else:
            proposed += _repeated(known, repetition.likely, rows - 1 - drafted)
    tokens = [pending, *proposed]
    back = [min(max(start - i, 0), len(history) - 1) for i in (1, 2)]
    filled = [start, len(tokens), *tokens, *[0] * (rows - len(tokens))]
    block.copy_(torch.tensor([*filled, *back], dtype=torch.int32))
    following.copy_(torch.tensor([*filled, drafted], dtype=torch.int32))
    said.copy_(best)


def _repeated(known: list[int], shortest: int, count: int) -> list[int]:
    """What followed the longest run of tokens, up to LONGEST, that also ends `known`; the latest of equals. Where that
    is still being written it repeats itself."""
    end = len(known)
    best, found = shortest - 1, 0
    for place in range(max(end - REACH, 1), end):
        length = 0
        while length < min(LONGEST, place) and known[place - 1 - length] == known[end - 1 - length] >= 0:
            length += 1
        if length >= max(best, shortest):
            best, found = length, place
    return [known[found + i % (end - found)] for i in range(count)] if found else []


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
