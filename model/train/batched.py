"""Greedy decoding of many prompts at once, for measuring: the same decoder, rows of different lengths, no validator.

Letters: B rows, P the longest prompt, S all positions, H heads, G groups, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attention.gqa import GroupedQueryAttention
from model.decoder import Block, Decoder
from model.layers import rotate

MULTIPLE = 64


@torch.inference_mode()
def generate(
    decoder: Decoder, prompts: Sequence[Sequence[int]], *, max_tokens: int, end_ids: frozenset[int], rows: int = 128
) -> list[list[int]]:
    """What follows each prompt, at most `max_tokens` ids; an end id is the last of its answer."""
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        for i, answer in zip(chosen, _rows([prompts[i] for i in chosen], decoder, max_tokens, end_ids), strict=True):
            answers[i] = answer
    return answers


def _rows(
    prompts: Sequence[Sequence[int]], decoder: Decoder, max_tokens: int, end_ids: frozenset[int]
) -> list[list[int]]:
    device = decoder.device
    # Prompts end at the same place, so that all rows write at the same place: what is missing stands at the left.
    longest = -(-max(map(len, prompts)) // MULTIPLE) * MULTIPLE
    space = -(-(longest + max_tokens) // MULTIPLE) * MULTIPLE
    empty = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=device)
    state = _State(decoder, len(prompts), space, empty)
    ends = torch.tensor(sorted(end_ids), device=device)
    best = decoder.head(state.extend(ids)[:, -1]).argmax(-1)
    found = [best]
    done = torch.isin(best, ends)
    for count in range(1, max_tokens):
        if count % 8 == 0 and bool(done.all()):
            break
        best = decoder.head(state.extend(best.unsqueeze(1))[:, -1]).argmax(-1)
        found.append(best)
        done |= torch.isin(best, ends)
    answers = []
    for row in torch.stack(found, 1).tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in end_ids), len(row))
        answers.append(row[:stop])
    return answers


class _State:
    """Keys and values of all layers for B rows, of which `empty` [B] places at the left hold nothing."""

    def __init__(self, decoder: Decoder, rows: int, space: int, empty: Tensor) -> None:
        config = decoder.config
        shape = (rows, config.groups, space, config.head_width)
        empty_rows = torch.zeros((config.layers, 2, *shape), dtype=decoder.dtype, device=decoder.device)
        self._layers = [(layer[0], layer[1]) for layer in empty_rows]
        self._decoder, self._empty, self._space, self._length = decoder, empty, space, 0

    def extend(self, ids: Tensor) -> Tensor:
        """ids [B, T] -> the residual stream [B, T, K]"""
        time = ids.shape[1]
        places = torch.arange(self._length, self._length + time, device=ids.device)
        positions = (places - self._empty.unsqueeze(1)).clamp_min(0)  # [B, T]
        cos, sin = self._decoder.rotary(positions.flatten())
        rotation = tuple(x.view(*positions.shape, -1).unsqueeze(1) for x in (cos, sin))
        seen = torch.arange(self._length + time if time > 1 else self._space, device=ids.device)
        mask = (seen <= places.unsqueeze(1)) & (seen >= self._empty.view(-1, 1, 1))
        # A query at an empty place sees itself, or its softmax would divide by nothing.
        mask = (mask | (seen == places.unsqueeze(1))).unsqueeze(1)  # [B, 1, T, S]
        x: Tensor = self._decoder.embedding(ids)
        for block, layer in zip(self._decoder.blocks, self._layers, strict=True):
            assert isinstance(block, Block) and isinstance(block.attention, GroupedQueryAttention)
            x = x + self._attention(block.attention, block.attention_norm(x), rotation, mask, layer)
            x = x + block.feed_forward(block.feed_forward_norm(x))
        self._length += time
        return x

    def _attention(
        self,
        module: GroupedQueryAttention,
        x: Tensor,
        rotation: tuple[Tensor, ...],
        mask: Tensor,
        layer: tuple[Tensor, Tensor],
    ) -> Tensor:
        rows, time, _ = x.shape
        heads, groups, width = module.heads, module.groups, module.width
        all_heads = module.qkv(x).view(rows, time, -1, width).transpose(1, 2)
        turned = rotate(all_heads[:, : heads + groups], (rotation[0], rotation[1]))
        keys, values = layer
        place = slice(self._length, self._length + time)
        keys[:, :, place] = turned[:, heads:]
        values[:, :, place] = all_heads[:, heads + groups :]
        k, v = keys[:, :, : mask.shape[-1]], values[:, :, : mask.shape[-1]]
        q = turned[:, :heads]
        if time == 1:
            # The heads of a group read the same keys: they are stacked into one taller query.
            stacked = q.reshape(rows, groups, heads // groups, width)
            y = F.scaled_dot_product_attention(stacked, k, v, attn_mask=mask).reshape(q.shape)
        else:
            repeats = heads // groups
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        z: Tensor = module.out(y.transpose(1, 2).reshape(rows, time, -1))
        return z
