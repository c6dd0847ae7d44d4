"""Multi-token modules as a drafter runs them: a few rows at a time, with rows of their own to attend to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from model.attention.span import Span
from model.decoder import Decoder
from model.feed_forward.moe import ExpertLinear
from model.feed_forward.quantised import QuantisedExperts
from model.layers import Linear
from model.mtp import MTP, MTPModule
from model.one_call import in_one_call
from model.quantised import Int4Linear, Int8Linear, few_bits, normed_product, pack_rows
from model.rounding import GROUP, Int4, to_int4

SLICE = 512  # rows rounded at once


class MTPRows:
    """The modules of `mtp` beside `decoder`, with room for `capacity` positions.

    head: the rows of the decoder's projection for the ids that are drafted, slices [n, K] of [V', K]. Where the decoder
    keeps its matrices in fewer bits, so do the modules, which are taken over, and the head; on a GPU, which reads all
    of it for every draft, the head does beside sixteen bits, too. `drafted`: V', the ids that are drafted at most, the
    most frequent ones.
    """

    def __init__(
        self, mtp: MTP, decoder: Decoder, head: Iterable[Tensor], capacity: int, drafted: int | None = None
    ) -> None:
        self.modules = [module for module in mtp.depths if isinstance(module, MTPModule)]
        self.ids: list[int] = mtp.ids[:drafted].tolist()
        self._decoder = decoder
        self._new_cache = partial(mtp.new_cache, capacity, 1, decoder.rows)
        self.cache = self._new_cache()
        self.head: nn.Module
        plain = not few_bits(decoder.projection)
        if plain and (decoder.device.type == "cpu" or decoder.dtype == torch.float32):
            self.head = _plain(torch.cat([rows.to(decoder.device, decoder.dtype) for rows in head]))
        else:
            self.head = Int8Linear(pack_rows(head, (len(self.ids), decoder.config.width), decoder.device), None)
        if not plain:
            for module in self.modules:
                _shrink(module)
                in_one_call(module)
        self.depth = len(self.modules)

    def beside(self) -> MTPRows:
        """The same modules for another text, with rows of its own."""
        other = copy.copy(self)
        other.cache = self._new_cache()
        return other

    def advance(self, depth: int, state: Tensor, tokens: Sequence[int], start: int) -> Tensor:
        """state [T, K] and T ids at positions start … -> the next state [T, K]; see `model.engine.mtp_draft`."""
        device, time = self._decoder.device, len(tokens)
        rotation = self._decoder.rotary(torch.arange(start, start + time, device=device))
        span = Span(start, time, rotation, self._decoder.rows)
        embedded = self.embedded(torch.tensor(tokens, device=device))
        after: Tensor = self.modules[depth](state[None], embedded[None], span, self.cache.layers[depth])
        return after[0]

    def embedded(self, tokens: Tensor) -> Tensor:
        """Ids [T] -> the decoder's rows for them, [T, K]."""
        rows: Tensor = self._decoder.embedding(tokens)
        return rows

    def best(self, depth: int, state: Tensor) -> int:
        """state [K] -> the id with the highest score."""
        return self.ids[int(normed_product(self.modules[depth].norm, self.head, state[None]).argmax())]


def _plain(weight: Tensor) -> Linear:
    layer = Linear(weight.shape[1], (weight.shape[0],), False, weight.dtype)
    layer.weight.data.copy_(weight)
    return layer.to(weight.device)


def in_few_bits(layer: Linear) -> Int8Linear | Int4Linear:
    """The same matrix: in eight bits, or on a GPU in four, which are read in half the time.

    The files of modules that were trained for a model have four.
    """
    rows, columns = layer.weight.shape
    if layer.weight.device.type == "cpu" or rows % 16 or columns % GROUP:
        return _in_eight_bits(layer)
    parts = zip(*(to_int4(some) for some in layer.weight.detach().split(SLICE)), strict=True)
    return Int4Linear(Int4(*(torch.cat(part) for part in parts)), layer.bias)


def _in_eight_bits(layer: Linear) -> Int8Linear:
    rows, columns = layer.weight.shape
    return Int8Linear(pack_rows(layer.weight.split(SLICE), (rows, columns), layer.weight.device), layer.bias)


def _shrink(module: nn.Module) -> None:
    """Few bits for every matrix of `module`."""
    for name, layer in list(module.named_modules()):
        owner, _, attribute = name.rpartition(".")
        if isinstance(layer, Linear):
            setattr(module.get_submodule(owner), attribute, in_few_bits(layer))
        elif isinstance(layer, ExpertLinear):
            count = sum(layer.parts) // layer.experts
            experts = [
                Int8Linear(pack_rows([rows], (count, rows.shape[1]), rows.device), None)
                for rows in layer.weight.split(count)
            ]
            setattr(module.get_submodule(owner), attribute, QuantisedExperts(experts, count))
