"""Some rows of a checkpoint's matrix, for what needs a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from model.decoder import Decoder
from model.loaders import match
from model.loaders.sources import open_source

SLICE = 4096  # rows read at once


def pick_rows(path: Path, key: str, rows: Tensor) -> Iterator[Tensor]:
    """The rows `rows` [n] of the weight that a decoder calls `key`, as the checkpoint has them, in fp32 slices."""
    source = open_source(path)
    with torch.device("meta"):
        decoder = Decoder(source.config)
    stored, numbers = match(source, decoder)[key].stored()
    for some in rows.split(SLICE):
        yield numbers(stored[some]).float()
