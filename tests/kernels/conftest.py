"""Memory that an op allocates and does not write is NaN, so that it cannot pass."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for the mode that fills memory with NaN


@pytest.fixture(autouse=True)
def nan_filled() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # it is this mode that fills what `empty` returns
    assert torch.empty(8).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
