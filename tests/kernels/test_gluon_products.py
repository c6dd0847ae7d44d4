"""The products on matrix units against their twins, on a CPU; on a GPU `test_pairs_block` holds them to the same."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from kernels import launching
from kernels.weights import stream
from tests.kernels.test_pairs_block import BOUNDS, error, few_bits, random

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
]


@pytest.mark.parametrize("op", ["norm_linear", "norm_swiglu", "linear_add"])
@pytest.mark.parametrize(
    ("rows", "k", "n", "bits", "group", "bias"),
    [
        (1, 96, 21, 16, 0, True),
        (3, 200, 40, 16, 0, False),
        (9, 136, 17, 16, 0, True),
        (33, 128, 8, 16, 0, False),
        (2, 256, 9, 8, 0, True),
        (3, 128, 20, 4, 32, True),
        (17, 640, 16, 4, 64, False),
    ],
)
def test_products_on_matrix_units(
    op: str, rows: int, k: int, n: int, bits: int, group: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.kernels.gluon_in_torch import Replaced

    module = importlib.import_module(f"kernels.{op}_gluon")
    twin = importlib.import_module(f"kernels.{op}_reference")
    monkeypatch.setattr("kernels.matrix_gluon.staged_most", lambda: 200_000)
    monkeypatch.setattr(launching, "overlaps", lambda: False)  # whatever GPU this machine has, nothing runs on it
    features = 2 * n if op == "norm_swiglu" else n
    weight: Any = random(features, k).bfloat16() if bits == 16 else few_bits(features, k, bits, "cpu", group)
    added = random(features).bfloat16() if bias else None
    x = random(rows, k, seed=1)
    gain = random(k, seed=2).bfloat16()
    given = (random(rows, n), x.bfloat16(), weight, added) if op == "linear_add" else (x, gain, 1e-6, weight, added)
    of = stream(weight)
    replaced = Replaced(module._kernel, of.numbers, of.factors)
    monkeypatch.setattr(module, "_kernel", replaced)
    assert error(getattr(module, op)(*given), getattr(twin, op)(*given)) <= BOUNDS[torch.bfloat16]
    assert replaced.launches == 1
