"""Multi-token modules as a drafter runs them: a few rows at a time, with rows of their own to attend to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from model.attention.span import Span
from model.decoder import Decoder
from model.layers import Linear
from model.mtp import MTP, MTPModule
from model.quantised import Int8, Int8Linear, to_int8


class MTPRows:
    """The modules of `mtp` beside `decoder`, with room for `capacity` positions.

    head: the rows of the decoder's projection for the ids that are drafted, slices [n, K] of [V', K]. Where the decoder
    keeps its matrices in fewer bits, so do the modules, which are taken over, and the head.
    """

    def __init__(self, mtp: MTP, decoder: Decoder, head: Iterable[Tensor], capacity: int) -> None:
        self._modules = [module for module in mtp.depths if isinstance(module, MTPModule)]
        self._ids: list[int] = mtp.ids.tolist()
        self._decoder = decoder
        self._cache = mtp.new_cache(capacity, 1, decoder.rows)
        self._head: nn.Module
        if isinstance(decoder.projection, Linear):
            self._head = _plain(torch.cat([rows.to(decoder.device, decoder.dtype) for rows in head]))
        else:
            slices = [to_int8(rows) for rows in head]
            codes, scales = (torch.cat(parts) for parts in zip(*slices, strict=True))
            self._head = Int8Linear(Int8(codes, scales), None)
            for module in self._modules:
                _shrink(module)
        self.depth = len(self._modules)

    def advance(self, depth: int, state: Tensor, tokens: Sequence[int], start: int) -> Tensor:
        """state [T, K] and T ids at positions start … -> the next state [T, K]; see `model.engine.mtp_draft`."""
        device, time = self._decoder.device, len(tokens)
        rotation = self._decoder.rotary(torch.arange(start, start + time, device=device))
        span = Span(start, time, rotation, self._decoder.rows)
        embedded = self._decoder.embedding(torch.tensor([tokens], device=device))
        after: Tensor = self._modules[depth](state[None], embedded, span, self._cache.layers[depth])
        return after[0]

    def best(self, depth: int, state: Tensor) -> int:
        """state [K] -> the id with the highest score."""
        return self._ids[int(self._head(self._modules[depth].norm(state[None])).argmax())]


def _plain(weight: Tensor) -> Linear:
    layer = Linear(weight.shape[1], (weight.shape[0],), False, weight.dtype)
    layer.weight.data.copy_(weight)
    return layer.to(weight.device)


def _shrink(module: nn.Module) -> None:
    """Eight bits for every matrix of `module`."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, Linear):
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, Int8Linear(to_int8(layer.weight), layer.bias))
