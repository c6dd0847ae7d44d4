"""A matrix from a checkpoint's blocks to eight bits in one go, against decoding, rounding and packing it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import kernels
from kernels import backend, native, stored_vnni, vnni
from model.loaders.ggml import KINDS, Kind
from model.loaders.storage import FOUR_BITS
from model.quantised import pack_rows, to_int8, to_int8_by_slices

pytestmark = pytest.mark.skipif(not native.lanes(), reason="no such instructions here")

LANES = [lanes for lanes in (8, 16) if lanes <= native.lanes()]
FORMATS = [*KINDS.values(), FOUR_BITS]


def written(kind: Kind, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Random bytes that stand for finite numbers."""
    random = torch.Generator().manual_seed(seed)
    if kind.quantised:
        # Every other bit is any; without the top bits of their exponents, the factors are small.
        return torch.randint(0, 256, (rows, kind.row_bytes(columns)), generator=random, dtype=torch.uint8) & 0xBF
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind.name]
    return torch.randn(rows, columns, generator=random).to(dtype).view(torch.uint8)


def same(found: vnni.Data, expected: vnni.Data) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(found[:4], expected[:4], strict=True))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_every_kind_is_packed_bit_by_bit_as_its_numbers_are(kind: Kind, lanes: int) -> None:
    raw = written(kind, 96, 768)
    raw[5] = 0  # a row of zeros, for kinds without offsets
    found, scales = stored_vnni.pack(96, 768, [(0, kind.name, raw)], lanes)
    assert same(found, vnni.pack(*to_int8(kind.numbers(raw)), lanes))
    assert scales.isfinite().all()
    assert scales.max() > 0


def test_parts_of_several_kinds_come_slice_by_slice_in_any_order(threads: int) -> None:
    lanes = native.lanes()
    kinds = {kind.name: kind for kind in FORMATS}
    plan = [(64, "Q8_0", 16), (0, "Q5_0", 48), (48, "Q5_0", 16), (80, "F32", 16)]
    slices = [(first, name, written(kinds[name], rows, 64, first)) for first, name, rows in plan]
    whole = torch.cat([kinds[name].numbers(raw) for _, name, raw in sorted(slices, key=lambda each: each[0])])
    found, _ = stored_vnni.pack(96, 64, slices, lanes)
    assert same(found, vnni.pack(*to_int8(whole), lanes))


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> int:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    request.addfinalizer(lambda: torch.set_num_threads(before))
    return int(request.param)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 17, 63])
def test_the_scale_of_a_row_tells_that_a_number_is_not_finite(value: float, place: int) -> None:
    rows = torch.randn(32, 64)
    rows[7, place] = value
    _, scales = stored_vnni.pack(32, 64, [(0, "F32", rows.view(torch.uint8))], native.lanes())
    assert scales.isfinite().nonzero().flatten().tolist() == [row for row in range(32) if row != 7]


def test_what_does_not_fit_is_said_beforehand() -> None:
    assert kernels.packs_stored((64, 256), [("Q4_K", 32), ("Q8_0", 32)])
    assert not kernels.packs_stored((64, 256), [("Q2_K", 64)])  # a kind that is not known
    assert not kernels.packs_stored((64, 128), [("Q4_K", 64)])  # half a block a row
    assert not kernels.packs_stored((64, 256), [("Q8_0", 40), ("Q8_0", 24)])  # half a strip
    assert not kernels.packs_stored((48, 256), [("Q8_0", 48)])  # half a pair
    with backend.use("reference"):
        assert not kernels.packs_stored((64, 256), [("Q8_0", 64)])


@pytest.mark.parametrize(("rows", "columns"), [(64, 48), (40, 48), (63, 16), (1, 96)])
def test_rows_of_floats_are_packed_as_their_rounded_numbers(rows: int, columns: int) -> None:
    numbers = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    found = pack_rows(numbers.split(32), (rows, columns), numbers.device)
    expected = kernels.pack_int8(*to_int8_by_slices([numbers], rows, columns))
    x = torch.randn(3, columns)
    assert found.shape == expected.shape
    assert torch.equal(kernels.int8_linear(x, found), kernels.int8_linear(x, expected))
