"""An adapter within weights of four or eight bits: added to the checkpoint's own numbers, which are rounded once more.

So the fused kernels read it, and it costs nothing; beside such weights it would be two more products for each layer.
Letters: K features in, N features out, r rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.weights import Eight, Four, four
from model.decoder import Decoder
from model.lora import Adapter, Switch, aside, fitting, layers
from model.quantised import Int4Linear, Int8Linear, to_int8
from model.rounding import to_int4

SLICE = 1024
"""Rows rounded at once."""


class Both(NamedTuple):
    """A tensor that the kernels read, and what is in it: both kept in the host's memory."""

    read: Tensor
    off: Tensor
    on: Tensor


class Rounded(Switch):
    """On: the weights with the pairs, rounded. Off: the weights as they were loaded, bit for bit.

    Switching copies all of them from the host's memory, to where they are: what was recorded goes on reading them.
    """

    def __init__(self, parts: Sequence[Both]) -> None:
        self._parts = parts
        self._on = False
        self.on = True

    @property
    def on(self) -> bool:
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on != self._on:
            self._on = on
            with torch.no_grad():
                for part in self._parts:
                    part.read.copy_(part.on if on else part.off, non_blocking=True)


def fits(decoder: Decoder) -> bool:
    """Are all layers that adapters are for in four or eight bits, as a block's products read them?"""
    return all(_data(layer) is not None for layer in layers(decoder).values())


@torch.no_grad()
def attach_rounded(decoder: Decoder, adapter: Adapter, original: Callable[[str], Tensor]) -> Switch:
    """Every pair within the weights of its layer, in as many bits as they have.

    original: the path of a layer -> its weight [N, K] as the checkpoint has it, fp32.
    """
    parts = []
    for path, (down, up) in fitting(decoder, adapter).items():
        read = _data(decoder.get_submodule(path))
        assert read is not None
        device = read[0].device
        whole = original(path).to(device)
        down, up = down.to(device), up.to(device)
        rows = [some + more @ down for some, more in zip(whole.split(SLICE), up.split(SLICE), strict=True)]
        if isinstance(read, Four):
            found = [tuple(four(*to_int4(some))) for some in rows]
        else:
            found = [tuple(to_int8(some)) for some in rows]
        merged = [torch.cat(same) for same in zip(*found, strict=True)]
        parts += [Both(place, aside(place), aside(new)) for place, new in zip(read, merged, strict=True)]
    return Rounded(parts)


def _data(layer: object) -> Four | Eight | None:
    if isinstance(layer, Int4Linear | Int8Linear) and isinstance(layer.packed.data, Four | Eight):
        return layer.packed.data
    return None
