"""The products on matrix units against their twins, on a CPU; on a GPU `test_pairs_block` holds them to the same."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from kernels import launching
from kernels.weights import stream
from model.quantised import to_q8
from tests.kernels.test_pairs_block import BOUNDS, error, few_bits, random
from tests.kernels.test_pairs_drafts import tops

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


@pytest.mark.parametrize("at", [None, 0, 2])
@pytest.mark.parametrize(
    ("rows", "k", "n", "bits", "bias"),
    [
        (3, 200, 70, 16, False),
        (5, 96, 31, 16, True),
        (11, 136, 65, 16, False),
        (3, 256, 40, 8, False),
        (3, 264, 300, 8, True),  # a program has several tiles, and the last ones have fewer
        (17, 160, 290, 8.5, False),  # 8.5 bits are those of Q8_0
        (3, 1056, 33, 8.5, False),
    ],
)
def test_scores_and_the_best_of_each_segment(
    rows: int, k: int, n: int, bits: float, bias: bool, at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import norm_scores_gluon as module
    from kernels.norm_linear_reference import norm_linear as twin
    from tests.kernels.gluon_in_torch import Replaced

    monkeypatch.setattr("kernels.matrix_gluon.staged_most", lambda: 200_000)
    monkeypatch.setattr(launching, "overlaps", lambda: False)
    monkeypatch.setattr(module, "multiprocessors", lambda: 1)
    weight: Any = random(n, k)
    weight = {16: weight.bfloat16, 8: lambda: few_bits(n, k, 8, "cpu"), 8.5: lambda: to_q8(weight)}[bits]()
    added = random(n).bfloat16() if bias else None
    x, gain = random(rows, k, seed=1), random(k, seed=2).bfloat16()
    of = stream(weight)
    replaced = Replaced(module._kernel, of.numbers, of.factors)
    monkeypatch.setattr(module, "_kernel", replaced)
    logits, highest, segment = module.norm_scores(x, gain, 1e-6, weight, added, None)
    assert error(logits, twin(x, gain, 1e-6, weight, added)) <= BOUNDS[torch.bfloat16]
    assert torch.equal(highest, tops(logits, segment))
    if at is not None:
        alone = module.norm_scores(x, gain, 1e-6, weight, added, torch.tensor([at], dtype=torch.int32))
        assert torch.equal(alone.logits, logits[at : at + 1]) and torch.equal(alone.tops, highest[at : at + 1])
    assert replaced.launches == 1 + (at is not None)


@pytest.mark.parametrize(
    ("k", "heads", "groups", "width", "start", "rows", "bits", "bias"),
    [
        (96, 3, 1, 32, 0, 1, 16, True),
        (320, 4, 2, 64, 41, 9, 16, False),
        (128, 2, 1, 32, 46, 8, 16, True),  # the last row lies behind the capacity
        (640, 3, 1, 64, 7, 3, 4, True),
        (320, 3, 1, 64, 7, 3, 8, True),
        (96, 2, 2, 32, 20, 11, 8, False),
    ],
)
def test_queries_and_what_is_kept(
    k: int, heads: int, groups: int, width: int, start: int, rows: int, bits: int, bias: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from kernels import norm_heads_gluon as module
    from kernels.norm_heads_reference import norm_heads as twin
    from tests.kernels.gluon_in_torch import Replaced

    monkeypatch.setattr(launching, "overlaps", lambda: False)
    features, capacity = (heads + 2 * groups) * width, 53
    weight: Any = random(features, k).bfloat16() if bits == 16 else few_bits(features, k, bits, "cpu", 32)
    added = random(features).bfloat16() if bias else None
    angles = random(capacity, width // 2)
    rotation, place = torch.cat([angles.cos(), angles.sin()], -1), torch.tensor([start], dtype=torch.int32)
    caches = [torch.full((2, groups, capacity, width), 7.0).bfloat16() for _ in range(2)]
    given = (random(rows, k), random(k, seed=2).bfloat16(), 1e-6, weight, added, rotation)
    replaced = Replaced(module._kernel)
    monkeypatch.setattr(module, "_kernel", replaced)
    ours = module.norm_heads(*given, *caches[0], place)
    expected = twin(*given, *caches[1], place)
    assert replaced.launches == 1
    assert error(ours[: capacity - start], expected[: capacity - start]) <= BOUNDS[torch.bfloat16]
    assert error(caches[0].float(), caches[1].float()) <= BOUNDS[torch.bfloat16]


@pytest.mark.parametrize(
    ("heads", "groups", "width", "start", "rows", "capacity"),
    [
        (3, 1, 32, 0, 1, 200),
        (4, 2, 64, 62, 3, 200),
        (2, 1, 64, 129, 2, 130),
        (14, 2, 32, 1100, 1, 1200),
        (14, 2, 32, 63, 5, 200),
        (14, 2, 32, 1151, 2, 1200),
    ],
)
def test_attention_by_chunks(
    heads: int, groups: int, width: int, start: int, rows: int, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import attend_gluon as module
    from kernels.attend_reference import attend as twin
    from kernels.merge_reference import merge
    from tests.kernels.gluon_in_torch import Replaced

    monkeypatch.setattr(launching, "overlaps", lambda: False)
    kept = random(2, groups, capacity, width).bfloat16()
    kept[:, :, start + rows :] = torch.nan  # nothing may be seen that no pass has written
    q, place = random(rows, heads * width).bfloat16(), torch.tensor([start], dtype=torch.int32)
    replaced = Replaced(module._kernel)
    monkeypatch.setattr(module, "_kernel", replaced)
    ours, expected = (
        merge(*found, place, 64, torch.float32)[: capacity - start]
        for found in (module.attend(q, *kept, place, 64), twin(q, *kept, place, 64))
    )
    assert error(ours, expected) <= BOUNDS[torch.bfloat16]
    assert replaced.launches == 1
