"""Some matrices of a checkpoint, or some rows of one, for what needs a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.decoder import Decoder
from model.loaders import match
from model.loaders.matrix import Matrix
from model.loaders.sources import open_source

SLICE = 512  # rows read at once


def pick_rows(path: Path, key: str, rows: Tensor) -> Iterator[Tensor]:
    """The rows `rows` [n] of the weight that a decoder calls `key`, as the checkpoint has them, in fp32 slices."""
    matrix = matrices(path)[key]
    for some in rows.split(SLICE):
        yield matrix.picked(some)


def matrices(path: Path) -> Mapping[str, Matrix]:
    """All weights of a checkpoint by the names that a decoder has for them, not read yet."""
    source = open_source(path)
    with torch.device("meta"):
        decoder = Decoder(source.config)
    return match(source, decoder)
