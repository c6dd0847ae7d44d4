"""The ops of a mixture of experts against their twins, from `test_pairs_block`'s table of bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels import launching
from kernels.experts import Routing
from kernels.weights import Eight, Weight
from tests.kernels.test_pairs_block import BOUNDS, SUMS, both, error, few_bits, random

pytestmark = [
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),  # every launch here says which it wants
    *([] if launching.INTERPRETED else [pytest.mark.gpu]),
]

PLAIN = Routing(16, 4, 4, 2, True, False, False, 4.0, 0.0, False)
"""What `viable-small` has."""
ROUTINGS = {
    "viable-small": PLAIN,
    "one-group": Routing(6, 2, 1, 1, False, False, True, 1.0, 0.0, False),
    "odd-groups": Routing(15, 3, 3, 2, False, True, True, 2.5, 0.0, False),
    "one-expert": Routing(1, 1, 1, 1, True, True, False, 1.0, 0.0, False),
    "enough-or-all-chosen": PLAIN._replace(threshold=0.5, sigmoid=True, normalised=True),
    "enough-or-every": PLAIN._replace(threshold=0.4, dense=True),
    "deepseek-v2-lite": Routing(64, 6, 1, 1, False, False, False, 1.0, 0.0, False),
    "deepseek-v3": Routing(256, 8, 8, 4, True, True, True, 2.5, 0.0, False),
}


@pytest.mark.parametrize("how", ROUTINGS.values(), ids=ROUTINGS.keys())
@pytest.mark.parametrize(("rows", "k"), [(3, 63), (2, 130), pytest.param(63, 1000, marks=pytest.mark.gpu)])
def test_routing(how: Routing, rows: int, k: int, device: str) -> None:
    x = random(rows, 2 * k, device=device)[:, ::2]  # laid out with gaps
    weight, gain = (random(*shape, dtype=torch.bfloat16, device=device) for shape in ((how.experts, k), (k,)))
    weight *= 2.4 / k**0.5  # so that thresholds are reached by some rows, and no sigmoid is 1
    for bias in (None, random(how.experts, device=device) * 0.1):
        ours, twin = both(lambda bias=bias: kernels.route(x, gain, 1e-6, weight, bias, how))
        assert torch.equal(ours[0], twin[0])
        assert error(ours[1], twin[1]) <= BOUNDS[torch.float32]


def test_a_threshold_is_reached_by_few_or_by_none(device: str) -> None:
    """All four cases of the two fallbacks come up."""
    x, gain = random(40, 64, device=device) * 3, torch.ones(64, device=device)
    weight = random(16, 64, device=device) * torch.linspace(0.01, 0.6, 16, device=device).unsqueeze(-1)
    for dense in (False, True):
        how = PLAIN._replace(threshold=0.7, dense=dense)
        (ids, _), twin = both(lambda how=how: kernels.route(x, gain, 1e-6, weight, None, how))
        assert torch.equal(ids, twin[0])
        assert set((ids < 16).sum(1).tolist()) > {1, 3, 16 if dense else 4}


def matrix(rows: int, columns: int, bits: int, device: str) -> Weight:
    if bits in (4, 8):
        few = few_bits(rows, columns, bits, device)
        return few._replace(scales=few.scales * 0.02) if isinstance(few, Eight) else few
    return random(rows, columns, dtype=torch.float32 if bits == 32 else torch.bfloat16, device=device)


def chosen(rows: int, experts: int, slots: int, device: str) -> tuple[Tensor, Tensor]:
    """Some slots are not used."""
    generator = torch.Generator().manual_seed(rows)
    ids = torch.stack([torch.randperm(experts + 1, generator=generator)[:slots] for _ in range(rows)]).int()
    if slots > 1:
        ids[-1, -1] = experts
    gates = torch.rand(rows, slots, generator=generator) * (ids < experts)
    return ids.to(device), gates.to(device)


@pytest.mark.parametrize(
    ("rows", "k", "width", "experts", "slots", "shares", "bits", "shared_bits"),
    [
        (1, 65, 63, 5, 2, 1, 32, 32),
        (3, 63, 17, 4, 4, 0, 16, 16),
        (2, 130, 24, 3, 1, 2, 16, 16),
        (2, 64, 32, 6, 3, 1, 4, 4),
        (3, 96, 64, 4, 2, 2, 4, 8),
        (2, 65, 19, 3, 2, 1, 8, 8),
        *(
            pytest.param(rows, 512, 96, 16, slots, 1, bits, bits, marks=pytest.mark.gpu)
            for rows, slots in ((1, 4), (3, 4), (32, 4), (2, 16))
            for bits in (32, 16, 8, 4)
        ),
        pytest.param(3, 2048, 1408, 64, 6, 2, 16, 16, marks=pytest.mark.gpu),
        pytest.param(63, 1000, 1000, 9, 5, 1, 16, 16, marks=pytest.mark.gpu),
    ],
)
def test_products_of_chosen_experts(
    rows: int, k: int, width: int, experts: int, slots: int, shares: int, bits: int, shared_bits: int, device: str
) -> None:
    x, gain = random(rows, 2 * k, device=device)[:, ::2], random(k, device=device)
    ids, gates = chosen(rows, experts, slots, device)
    gate_up, down = matrix(2 * width * experts, k, bits, device), matrix(k * experts, width, bits, device)
    of_shared = [
        (matrix(2 * shares * width, k, shared_bits, device), matrix(k, shares * width, shared_bits, device))
    ] if shares else [(None, None)]  # fmt: skip
    (shared_first, shared_last) = of_shared[0]
    ours, twin = both(lambda: kernels.experts_swiglu(x, gain, 1e-6, ids, gate_up, shared_first, width))
    used = torch.cat([ids < experts, torch.ones(rows, shares, dtype=torch.bool, device=device)], 1)
    bound = BOUNDS[torch.float32 if bits == 32 else torch.bfloat16]
    assert error(ours[used], twin[used]) <= bound
    assert ours[~used].isnan().all() and (~used).any() >= (slots > 1)
    # The twin reads no slot that is not used either.
    args = (torch.where(used.unsqueeze(-1), twin, torch.nan), ids, gates, down, shared_last)
    assert error(*both(lambda: kernels.experts_add(x, *args))) <= SUMS[torch.float32 if bits == 32 else torch.bfloat16]


def test_a_row_does_not_depend_on_the_rows_beside_it(device: str) -> None:
    """Bit by bit."""
    x, gain, weight = random(9, 64, device=device), random(64, device=device), random(16, 64, device=device)
    gate_up, down = matrix(16 * 64, 64, 4, device), matrix(16 * 64, 32, 4, device)

    def rows(some: Tensor) -> Tensor:
        ids, gates = kernels.route(some, gain, 1e-6, weight, None, PLAIN)
        inner = kernels.experts_swiglu(some, gain, 1e-6, ids, gate_up, None, 32)
        return kernels.experts_add(some, inner, ids, gates, down, None)

    together = rows(x)
    for count in (1, 2, 4):
        assert torch.equal(together, torch.cat([rows(some) for some in x.split(count)]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, w, i: kernels.experts_swiglu(x, w[0], 1e-6, i, w, None, 3), "8 rows of experts"),
        (lambda x, w, i: kernels.experts_swiglu(x, w[0], 1e-6, i, w[:, ::2], None, 2), "gaps between its rows"),
        (lambda x, w, i: kernels.experts_swiglu(x, w[0], 1e-6, i.repeat(1, 40), w, None, 2), "40 slots"),
        (lambda x, w, i: kernels.experts_add(x, x[:, None], i, i.float(), w[:7], None), r"experts \[7, 4\]"),
        (lambda x, w, i: kernels.route(x, w[0], 1e-6, w[:3], None, PLAIN), r"weight of shape \[3, 4\]"),
    ],
)
def test_misuse_names_the_value(call: Any, words: str) -> None:
    ids = torch.zeros(2, 1, dtype=torch.int32)
    with pytest.raises(ValueError, match=words):
        call(torch.ones(2, 4), torch.ones(8, 4), ids)
