"""Memory that an op allocates and does not write is NaN, so that it cannot pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def nan_filled() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # it is this mode that fills what `empty` returns
    assert torch.empty(8).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
