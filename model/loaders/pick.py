"""Single rows of a checkpoint's matrix, for what needs a part of it at full precision."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from model.decoder import Decoder
from model.loaders import match
from model.loaders.sources import open_source


def pick_rows(path: Path, key: str, rows: Tensor) -> Tensor:
    """The rows `rows` [n] of the weight that a decoder calls `key`, fp32 [n, K], as the checkpoint has them."""
    source = open_source(path)
    with torch.device("meta"):
        decoder = Decoder(source.config)
    stored, numbers = match(source, decoder)[key].stored()
    return numbers(stored[rows]).float()
