"""What multi-token modules keep of a prompt, as `prefill` computes a decoder: many positions in a pass of fixed shape.

Depth 1 reads at position t the decoder's state there and token t + 1, depth 2 the state of depth 1 and token t + 2.
One position earlier, depth 2 therefore reads the token that depth 1 reads. Letters: T tokens, K width, S capacity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import kernels
from model.gpu.prefill import PromptLayers, positions_from, product
from model.mtp_rows import MTPRows

BEFORE = 2
"""Numbers before the tokens of a pass: where depth 1 starts, and depth 2."""


def place(start: int, tokens: Sequence[int], width: int) -> list[int]:
    """The numbers that a pass of `width` positions is given, int32 [2 + width + 1]; see `Follow`.

    tokens: of positions start + 1 …
    """
    return [start, max(start - 1, 0), *tokens, *[0] * (width + 1 - len(tokens))]


class Follow:
    """Both depths, from `start` on."""

    def __init__(self, rows: MTPRows, rotation: Tensor, streams: Tensor, states: Tensor) -> None:
        """rotation: fp32 [S, D], cosines then sines. streams: fp32 [S + 1, K], the decoder's states of all positions.
        states: of depth 1, fp32 [S + 1, K], written here. The last rows take what only fills up a pass.
        """
        self._rows = rows
        self._of = streams, states
        for layer in rows.cache.layers:
            for kept in layer.rows:
                kept.zero_()  # what is masked is multiplied with zero, which a NaN would survive
        self._layers = [
            PromptLayers([module.block], [cache], rotation)
            for module, cache in zip(rows.modules, rows.cache.layers, strict=True)
        ]

    def __call__(self, given: Tensor, seen: int | None) -> None:
        """given: as `place` says, on the device. seen: as `PromptLayers` says."""
        (first, second), tokens = given[:BEFORE].split(1), given[BEFORE:].long()
        streams, states = self._of
        count = len(tokens) - 1
        kernels.keep(self._state(0, streams, tokens[:count], first, seen), first, states)
        # At the very beginning depth 2 starts where depth 1 does, and reads one token further on.
        behind = (second + 1 - first) + torch.arange(count, device=given.device)
        self._state(1, states, tokens[behind], second, seen)

    def _state(self, depth: int, below: Tensor, tokens: Tensor, start: Tensor, seen: int | None) -> Tensor:
        """fp32 [T, K]"""
        module = self._rows.modules[depth]
        state = below[positions_from(start, len(tokens), len(below))]
        x = product(module.projection, module.joined(state, self._rows.embedded(tokens)))
        return self._layers[depth](x.float(), start, seen)
