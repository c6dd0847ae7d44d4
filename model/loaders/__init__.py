"""From a file to a decoder: open, compare names and shapes, fill."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from model.decoder import Decoder
from model.errors import BadWeights, ModelNotFound, ModelUsageError, listed
from model.layers import Linear
from model.loaders import names
from model.loaders.fill import AUTO, PRECISIONS, fill
from model.loaders.matrix import Matrix
from model.loaders.sources import Source, open_source

log = logging.getLogger(__name__)


def load(path: str | Path, device: str = "cpu", dtype: str = "auto") -> Decoder:
    """The decoder in a GGUF file or in a folder with `config.json` and safetensors.

    dtype: what weights are kept in: "float32", "bfloat16", "int8" or "int4" (both on a CPU), or "auto": bfloat16 on
    CUDA; on a CPU float32 for a checkpoint in float32, else int8.
    Raises a ModelError that names what is wrong with the file, the weights, the device or the dtype.
    """
    path = Path(path)
    if not path.exists():
        raise ModelNotFound(f"no such file or folder: {path}")
    place = _device(device)
    if dtype != "auto" and dtype not in PRECISIONS:
        raise ModelUsageError(f"dtype '{dtype}' is not known (known: auto, {', '.join(PRECISIONS)})")
    source = open_source(path)
    name = AUTO[place.type][source.precision] if dtype == "auto" else dtype
    precision = PRECISIONS[name]
    if place.type not in precision.devices:
        raise ModelUsageError(f"dtype '{name}' does not run on {place.type} (does: {', '.join(precision.devices)})")
    with torch.device("meta"):
        decoder = Decoder(source.config, precision.dtype, precision.rows)
    fill(decoder, match(source, decoder), precision, place)
    log.info("%s: %s on %s", path.name, name, place)
    return decoder.eval()


def match(source: Source, decoder: Decoder) -> dict[str, Matrix]:
    """Our key -> its rows in the checkpoint, for every weight of `decoder`; a tied head has the embedding's.

    BadWeights names tensors that are missing, mis-shaped or unknown.
    """
    found: dict[str, Matrix] = {}
    used: set[str] = set()
    missing: list[str] = []
    wrong: list[str] = []
    there = set(source.names())
    for key, weight in decoder.named_parameters():
        if key == "projection.weight" and source.config.tied_head:
            found[key] = found["embedding.weight"]
            continue
        parts = names.parts(source.table, key, source.rotary_interleaved)
        module = decoder.get_submodule(key.rpartition(".")[0])
        rows = module.parts if isinstance(module, Linear) else (weight.shape[0],)
        for part, count in zip(parts, rows, strict=True):
            used.add(part.name)
            expected = (count, *weight.shape[1:])
            if part.name not in there:
                missing.append(part.name)
            elif source.shape(part.name) != expected:
                wrong.append(f"{part.name} has shape {list(source.shape(part.name))}, not {list(expected)}")
        found[key] = Matrix(source, parts, tuple(weight.shape))
    unknown = sorted(name for name in there - used if not names.IGNORED.fullmatch(name))
    if source.config.tied_head and unknown == ["lm_head.weight"]:
        unknown = []  # a second copy of the embedding, which some writers leave in
    for what, which in (("missing", missing), ("mis-shaped", wrong), ("unknown", unknown)):
        if which:
            raise BadWeights(f"{len(which)} {what} tensor{'s' * (len(which) > 1)}: {listed(which)}")
    return found


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
