"""Weights into a decoder, in the precision that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from kernels.weights import Eight
from model.decoder import Decoder
from model.layers import Linear, Rotary
from model.loaders.matrix import Matrix
from model.quantised import (
    GROUP,
    Int4,
    Int4Linear,
    Int8,
    Int8Embedding,
    Int8Linear,
    StoredEmbedding,
    to_int4,
    to_int8,
)


@dataclass(frozen=True)
class Precision:
    """What a decoder's numbers are kept in."""

    linear: str  # "float", "int8" or "int4": the matrices
    dtype: torch.dtype  # activations, and all weights that are not in fewer bits
    rows: torch.dtype  # attention and what it caches
    devices: tuple[str, ...] = ("cpu",)


# The residual stream of quantised decoders is fp32, which costs nothing where one row is computed at a time.
PRECISIONS: dict[str, Precision] = {
    "float32": Precision("float", torch.float32, torch.float32, ("cpu", "cuda")),
    "bfloat16": Precision("float", torch.bfloat16, torch.bfloat16, ("cpu", "cuda")),
    "int8": Precision("int8", torch.float32, torch.bfloat16, ("cpu", "cuda")),
    "int4": Precision("int4", torch.float32, torch.bfloat16, ("cpu", "cuda")),
}

# dtype "auto": by device, then by what the checkpoint's own matrices are kept in.
AUTO: dict[str, dict[str, str]] = {
    "cpu": {"float32": "float32", "bfloat16": "int8", "quantised": "int8"},
    "cuda": {"float32": "bfloat16", "bfloat16": "bfloat16", "quantised": "bfloat16"},
}


def fill(decoder: Decoder, weights: Mapping[str, Matrix], precision: Precision, device: torch.device) -> None:
    """Give a decoder that was built on the meta device its weights, on `device`."""
    if precision.linear != "float":
        for name, module in list(decoder.named_modules()):
            if isinstance(module, Linear):
                _put(decoder, name, _quantised(name, weights, precision, device))
        _put(decoder, "embedding", _embedding(decoder, weights["embedding.weight"], device))
    read: dict[Matrix, nn.Parameter] = {}  # a tied head has the embedding's matrix
    for key, weight in list(decoder.named_parameters(remove_duplicate=False)):
        matrix = weights[key]
        if matrix not in read:
            read[matrix] = nn.Parameter(matrix.read(weight.dtype, device), requires_grad=False)
        _put(decoder, key, read[matrix])
    # Its table is computed, so it is the one thing that building on the meta device has lost.
    decoder.rotary = Rotary(decoder.config.rope, precision.dtype).to(device)


def _put(decoder: Decoder, name: str, value: nn.Module | nn.Parameter) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(decoder.get_submodule(owner), attribute, value)


def _embedding(decoder: Decoder, matrix: Matrix, device: torch.device) -> nn.Module:
    """On a CPU the checkpoint's own bytes; on a GPU eight bits, which a tied head has already."""
    if device.type == "cpu":
        return StoredEmbedding(*matrix.stored())
    head = decoder.projection
    if decoder.config.tied_head and isinstance(head, Int8Linear) and isinstance(head.packed.data, Eight):
        return Int8Embedding(head.packed.data)
    return Int8Embedding(Eight(*(part.to(device) for part in _int8(matrix))))


def _quantised(name: str, weights: Mapping[str, Matrix], precision: Precision, device: torch.device) -> nn.Module:
    matrix, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    numbers = None if bias is None else bias.read(torch.float32, device)
    rows, columns = matrix.shape
    # The head decides between near-equal tokens: it keeps eight bits. So does what no layout of four bits fits.
    if precision.linear == "int4" and name != "projection" and rows % 16 == 0 and columns % GROUP == 0:
        return Int4Linear(Int4(*(part.to(device) for part in _int4(matrix))), numbers)
    return Int8Linear(Int8(*(part.to(device) for part in _int8(matrix))), numbers)


def _int8(matrix: Matrix) -> Int8:
    whole = Int8(torch.empty(matrix.shape, dtype=torch.int8), torch.empty(matrix.shape[0]))
    for place, rows in matrix.slices():
        for kept, new in zip(whole, to_int8(rows), strict=True):
            kept[place : place + len(rows)] = new
    return whole


def _int4(matrix: Matrix) -> Int4:
    rows, columns = matrix.shape
    factors = (torch.empty(rows, columns // GROUP, dtype=torch.bfloat16) for _ in range(2))
    whole = Int4(torch.empty(rows, columns, dtype=torch.uint8), *factors)
    for place, slice_ in matrix.slices():
        for kept, new in zip(whole, to_int4(slice_), strict=True):
            kept[place : place + len(slice_)] = new
    return whole
