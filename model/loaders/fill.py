"""Weights into a decoder, in the precision that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import kernels
from kernels.weights import Eight, q8
from model.attention import attention
from model.config import ModelConfig
from model.decoder import Block, Decoder
from model.feed_forward import together
from model.feed_forward.moe import ExpertLinear, MixtureOfExperts
from model.feed_forward.quantised import QuantisedExperts
from model.layers import Linear
from model.loaders.matrix import Matrix
from model.loaders.sources import Source
from model.one_call import begin_to_compile, in_one_call, suits
from model.quantised import (
    Int4Linear,
    Int8,
    Int8Embedding,
    Int8Linear,
    Q8Linear,
    StoredEmbedding,
    to_int8_by_slices,
)
from model.rounding import GROUP, Int4, finer, to_int4
from model.threads import one_thread


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

# dtype "auto": by device, then by what the checkpoint's own matrices are kept in; see `automatic`.
AUTO: dict[str, dict[str, str]] = {
    "cpu": {"float32": "float32", "bfloat16": "int8", "quantised": "int8", "codes": "int4"},
    "cuda": dict.fromkeys(("float32", "bfloat16", "quantised", "codes"), "bfloat16"),
}


AT_ONCE = 4
"""Matrices that are rounded at a time; each is there twice meanwhile."""


def automatic(device: torch.device, kept: str, config: ModelConfig) -> str:
    """The dtype "auto" for a checkpoint whose matrices are kept so.

    Four bits become eight where layers of these are computed in one call: the rounding costs less than a two-thousandth
    of the bits per byte, the call saves two thirds of the time.
    """
    name = AUTO[device.type][kept]
    return "int8" if name == "int4" and suits(_block(config)) else name


def _block(config: ModelConfig) -> Block:
    """The last block, of which there are most, without weights."""
    with torch.device("meta"):
        return Block(config, config.layers - 1, torch.float32)


def prepare(source: Source, precision: Precision, device: torch.device) -> None:
    """Begin to compile what filling a decoder of `source` takes, and what computes with it."""
    if precision.linear == "int8" and device.type == "cpu":
        matrices = [name for name in source.names() if len(source.shape(name)) > 1]
        kernels.prepare_stored(sorted({source.kind(name).name for name in matrices}))
        begin_to_compile(_block(source.config))


def fill(
    decoder: Decoder, weights: Mapping[str, Matrix], precision: Precision, device: torch.device, *, trainable: bool
) -> None:
    """Give a decoder that was built on the meta device its weights, on `device`; trainable: as `load` says."""
    if precision.linear != "float":
        shrink(decoder, weights, precision, device)
        _put(decoder, "embedding", _embedding(decoder, weights, device))
    elif precision.dtype == torch.bfloat16 and device.type == "cuda" and not trainable:
        keep_head(decoder, weights, device)
    read: dict[Matrix, nn.Parameter] = {}  # a head that is the embedding is read once
    for key, weight in list(decoder.named_parameters(remove_duplicate=False)):
        matrix = weights[key]
        if matrix not in read:
            read[matrix] = nn.Parameter(matrix.read(weight.dtype, device), requires_grad=False)
        _put(decoder, key, read[matrix])
    # Its table is computed, so it is the one thing that building on the meta device has lost.
    decoder.rotary = attention(decoder.config.attention).rotary(decoder.config, precision.dtype).to(device)
    decoder.to(device)  # counts, which no checkpoint has
    in_one_call(decoder)


def shrink(whole: nn.Module, weights: Mapping[str, Matrix], precision: Precision, device: torch.device) -> None:
    """Put matrices in fewer bits where `whole` has linear layers and experts."""
    # The largest first: while it is put in another order, it is there twice.
    modules = sorted(whole.named_modules(), key=lambda named: -_largest(named[1]))
    linear = [name for name, module in modules if isinstance(module, Linear)]
    eight = finer([name for name, module in whole.named_modules() if isinstance(module, Linear)])
    quantised = _side_by_side(lambda name: _quantised(name, weights, precision, device, eight), linear, device)
    for name, made in zip(linear, quantised, strict=True):
        _put(whole, name, made)
    for name, module in modules:
        if isinstance(module, ExpertLinear):
            _put(whole, name, _quantised_experts(weights[f"{name}.weight"], module.experts, precision, device))
        elif isinstance(module, MixtureOfExperts) and precision.linear == "int4" and device.type == "cpu":
            _join(name, module, weights)


def _side_by_side(make: Callable[[str], nn.Module], names: Sequence[str], device: torch.device) -> Iterator[nn.Module]:
    """What `make` makes of the names, in their order; on a CPU by a thread each for a few at a time.

    Slices are too short to be shared among threads, and as many operations as a slice takes keep one of them busy.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield from map(make, names)
        return
    with (
        one_thread(),
        ThreadPoolExecutor(min(threads, AT_ONCE), initializer=lambda: torch.set_num_threads(1)) as pool,
    ):
        try:
            yield from pool.map(make, names)
        finally:
            pool.shutdown(cancel_futures=True)


def _largest(module: nn.Module) -> int:
    """Numbers of its own largest parameter."""
    return max((parameter.numel() for parameter in module.parameters(recurse=False)), default=0)


def _put(whole: nn.Module, name: str, value: nn.Module | nn.Parameter) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(whole.get_submodule(owner), attribute, value)


def _embedding(decoder: Decoder, weights: Mapping[str, Matrix], device: torch.device) -> nn.Module:
    """On a CPU the checkpoint's own bytes; on a GPU eight bits, which a tied head has already."""
    matrix = weights["embedding.weight"]
    if device.type == "cpu":
        if matrix is not weights["projection.weight"]:  # which is read as a whole
            matrix.check()
        return StoredEmbedding(*matrix.stored())
    head = decoder.projection
    tied = matrix is weights["projection.weight"]
    if tied and isinstance(head, Int8Linear) and isinstance(head.packed.data, Eight):
        return Int8Embedding(head.packed.data)
    return Int8Embedding(Eight(*(part.to(device) for part in _int8(matrix))))


def keep_head(decoder: Decoder, weights: Mapping[str, Matrix], device: torch.device) -> None:
    """Leave a head in the checkpoint's own eight bits, if it has Q8_0, and an embedding that is the same matrix.

    The numbers are those of sixteen bits, bit for bit. A pass reads half as much of what is its largest matrix.
    """
    matrix = weights["projection.weight"]
    if found := matrix.eight_bits():
        head = q8(*(part.to(device) for part in found))
        _put(decoder, "projection", Q8Linear(head))
        if matrix is weights["embedding.weight"]:
            _put(decoder, "embedding", Int8Embedding(head, decoder.dtype))


def _quantised(
    name: str, weights: Mapping[str, Matrix], precision: Precision, device: torch.device, eight: set[str]
) -> nn.Module:
    """eight: what keeps eight bits, if the checkpoint has it in more than four."""
    matrix, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    numbers = None if bias is None else bias.read(torch.float32, device)
    rows, columns = matrix.shape
    # The head decides between near-equal tokens: it keeps eight bits. So does what no layout of four bits fits.
    if precision.linear == "int4" and name != "projection" and rows % 16 == 0 and columns % GROUP == 0:
        four = _taken(matrix, device) if name in eight else int4(matrix, device)
        if four is not None:
            return Int4Linear(four, numbers)
    return _eight(matrix, numbers, device)


def _eight(matrix: Matrix, bias: Tensor | None, device: torch.device) -> Int8Linear:
    packed = matrix.in_eight_bits() if device.type == "cpu" else None
    return Int8Linear(packed or Int8(*(part.to(device) for part in _int8(matrix))), bias)


def _quantised_experts(matrix: Matrix, count: int, precision: Precision, device: torch.device) -> nn.Module:
    """A matrix of fewer bits for each of `count` experts, whose rows stand below each other."""
    rows, columns = matrix.shape
    if precision.linear == "int4" and rows // count % 16 == 0 and columns % GROUP == 0:
        fours = zip(*(part.chunk(count) for part in int4(matrix, device)), strict=True)
        return QuantisedExperts([Int4Linear(Int4(*parts), None) for parts in fours], rows // count)
    if apart := matrix.chunk(count):
        return QuantisedExperts([_eight(each, None, device) for each in apart], rows // count)
    eights = zip(*(part.to(device).chunk(count) for part in _int8(matrix)), strict=True)
    return QuantisedExperts([Int8Linear(Int8(*parts), None) for parts in eights], rows // count)


def _join(name: str, mixture: MixtureOfExperts, weights: Mapping[str, Matrix]) -> None:
    """Give a small mixture all its matrices once more, for few rows at a time."""
    keys = ["expert_gate_up", "expert_down"]
    if f"{name}.shared.gate_up.weight" in weights:
        keys += ["shared.gate_up", "shared.down"]
    matrices = [weights[f"{name}.{key}.weight"] for key in keys]
    biased = any(f"{name}.{key}.bias" in weights for key in keys)
    if not biased and together.fits([matrix.shape for matrix in matrices], mixture.count):
        mixture.few = together.pack([int4(matrix, torch.device("cpu")) for matrix in matrices], mixture.count)


def _int8(matrix: Matrix) -> Int8:
    return to_int8_by_slices((rows for _, rows in matrix.slices()), *matrix.shape)


def int4(matrix: Matrix, device: torch.device) -> Int4:
    """A matrix in four bits on `device`, where it is rounded: as the checkpoint has it, if it has four."""
    if taken := _taken(matrix, device):
        return taken
    rows, columns = matrix.shape
    factors = (torch.empty(rows, columns // GROUP, dtype=torch.bfloat16, device=device) for _ in range(2))
    whole = Int4(torch.empty(rows, columns, dtype=torch.uint8, device=device), *factors)
    for place, slice_ in matrix.slices():
        for kept, new in zip(whole, to_int4(slice_.to(device)), strict=True):
            kept[place : place + len(slice_)] = new
    return whole


def _taken(matrix: Matrix, device: torch.device) -> Int4 | None:
    """The checkpoint's own codes of four bits, if it has them."""
    if stored := matrix.four_bits():
        codes, scales = stored
        steps = scales.to(device, torch.bfloat16)
        return Int4(codes.to(device), steps, torch.zeros_like(steps))
    return None
