"""From a file to a decoder: open, compare names and shapes, fill."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.decoder import Decoder
from model.errors import BadWeights, ModelNotFound, ModelUsageError, listed
from model.feed_forward.moe import ExpertLinear
from model.layers import Linear
from model.loaders import names
from model.loaders.fill import PRECISIONS, automatic, fill, prepare
from model.loaders.matrix import Matrix
from model.loaders.sources import Source, open_source
from model.memory import lean

log = logging.getLogger(__name__)

SAMPLED = 64
"""Rows of embedding and head that are compared."""
ROUNDED = 0.3
"""What rounding to two bits and more may change, over what there was; matrices of their own differ by more than 1."""


@lean()
def load(path: str | Path, device: str = "cpu", dtype: str = "auto", *, trainable: bool = False) -> Decoder:
    """The decoder in a GGUF file or in a folder with `config.json` and safetensors.

    dtype: what weights are kept in: "float32", "bfloat16", "int8" or "int4" (both on a CPU), or "auto": bfloat16 on
    CUDA; on a CPU float32 for a checkpoint in float32, else int8.
    trainable: whether all matrices of floating point are parameters. If not, a head that a GGUF file has in Q8_0 stays
    so on CUDA beside bfloat16, which are the same numbers in half of the memory.
    Raises a ModelError that names what is wrong with the file, the weights, the device or the dtype.
    """
    path = Path(path)
    if not path.exists():
        raise ModelNotFound(f"no such file or folder: {path}")
    place = _device(device)
    if dtype != "auto" and dtype not in PRECISIONS:
        raise ModelUsageError(f"dtype '{dtype}' is not known (known: auto, {', '.join(PRECISIONS)})")
    source = open_source(path)
    name = automatic(place, source.precision, source.config) if dtype == "auto" else dtype
    precision = PRECISIONS[name]
    if place.type not in precision.devices:
        raise ModelUsageError(f"dtype '{name}' does not run on {place.type} (does: {', '.join(precision.devices)})")
    prepare(source, precision, place)
    with torch.device("meta"):
        decoder = Decoder(source.config, precision.dtype, precision.rows)
    fill(decoder, match(source, decoder), precision, place, trainable=trainable)
    log.info("%s: %s on %s", path.name, name, place)
    return decoder.eval()


def match(source: Source, decoder: Decoder) -> dict[str, Matrix]:
    """Our key -> its rows in the checkpoint, for every weight of `decoder`; a tied head has the embedding's.

    Some writers keep a tied matrix twice, rounded in two ways. Both keys then have the head's, which is the finer one,
    and the memory of the other is saved.

    BadWeights names tensors that are missing, mis-shaped or unknown.
    """
    found: dict[str, Matrix] = {}
    problems = Problems(source)
    for key, weight in decoder.named_parameters():
        if key == "projection.weight" and source.config.tied_head:
            found[key] = found["embedding.weight"]
            continue
        parts = names.parts(source.table, key, source.config, source.pairs)
        found[key] = problems.checked(parts, weight, decoder.get_submodule(key.rpartition(".")[0]))
    others = drafting_layers(source.config)
    unknown = [name for name in problems.unused() if not names.IGNORED.fullmatch(name) and not name.startswith(others)]
    if source.config.tied_head and unknown == ["lm_head.weight"]:
        unknown = []  # a second copy of the embedding, which some writers leave in
    problems.report(unknown)
    if written_twice(found["embedding.weight"], found["projection.weight"]):
        found["embedding.weight"] = found["projection.weight"]
    return found


def written_twice(embedding: Matrix, head: Matrix) -> bool:
    """Whether both are one matrix [V, K], up to rounding. What is read of them shows it; NaN is never equal."""
    if embedding is head:
        return True
    rows, others = embedding.spread(SAMPLED), head.spread(SAMPLED)
    return bool((rows - others).norm() <= ROUNDED * others.norm())


class Problems:
    """What is wrong with a checkpoint's tensors, collected until all have been looked at."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._there = set(source.names())
        self._used: set[str] = set()
        self._missing: list[str] = []
        self._wrong: list[str] = []

    def checked(self, parts: tuple[names.Part, ...], weight: Tensor, module: nn.Module) -> Matrix:
        """The rows that `parts` hold for `weight`, a parameter of `module`."""
        rows: tuple[int, ...] = (weight.shape[0],)
        if len(parts) > 1 and isinstance(module, Linear | ExpertLinear):
            rows = module.parts
        for part, count in zip(parts, rows, strict=True):
            self._used.add(part.name)
            expected = (count, *weight.shape[1:])
            if part.name not in self._there:
                self._missing.append(part.name)
            elif self._source.shape(part.name) != expected:
                shape = self._source.shape(part.name)
                self._wrong.append(f"{part.name} has shape {list(shape)}, not {list(expected)}")
        return Matrix(self._source, parts, tuple(weight.shape))

    def unused(self) -> list[str]:
        """The tensors that nobody asked for."""
        return sorted(self._there - self._used)

    def report(self, unknown: list[str]) -> None:
        """BadWeights if there was anything, or is anything unknown."""
        for what, which in (("missing", self._missing), ("mis-shaped", self._wrong), ("unknown", unknown)):
            if which:
                raise BadWeights(f"{len(which)} {what} tensor{'s' * (len(which) > 1)}: {listed(which)}")


def drafting_layers(config: ModelConfig) -> tuple[str, ...]:
    """What the names of multi-token modules begin with: DeepSeek-V3 counts them as layers behind the last."""
    return tuple(f"model.layers.{config.layers + depth}." for depth in range(config.draft_depth))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelUsageError(f"no device is called '{name}' (known: cpu, cuda)") from None
    if device.type not in ("cpu", "cuda"):
        raise ModelUsageError(f"device '{name}' is not supported (known: cpu, cuda)")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelUsageError("no CUDA device is available")
    return device
