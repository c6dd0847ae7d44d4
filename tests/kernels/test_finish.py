"""The rest of a layer in one launch against its twin: on a CPU program by program, on a GPU as it is launched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels import launching
from kernels.attend_reference import attend
from kernels.finish_reference import finish as twin
from kernels.finishing import MOST_CHUNKS, Finish
from kernels.merge_reference import merge
from kernels.weights import Weight, four, stream
from tests.kernels.test_pairs_block import error, random

pytest.importorskip("triton")
BOUND = 1e-2  # activations are rounded to bfloat16 between products; see tests/kernels/test_pairs_block.py
Shape = tuple[int, int, int, int, int]
DEFAULT = (896, 4864, 14, 2, 64)


def weight(rows: int, columns: int, bits: int, seed: int, device: str) -> Weight:
    plain = random(rows, columns, seed=seed) * columns**-0.5
    if bits == 16:
        return plain.bfloat16().to(device)
    steps = (plain.view(rows, -1, 32).abs().amax(2) / 7).bfloat16()
    codes = (plain.view(rows, -1, 32) / steps.float().unsqueeze(2)).round().clamp(-7, 7) + 8
    found = four(codes.to(torch.uint8).view(rows, columns), steps, steps * 0.25)
    return type(found)(*(part.to(device) for part in found))


def some(shape: Shape, bits: int, device: str = "cpu", seed: int = 0) -> Finish:
    """Weights of (K, F, H, G, D)."""
    k, f, heads, _, width = shape
    gain = (1 + 0.1 * random(k, seed=seed)).to(torch.bfloat16 if bits == 16 else torch.float32)
    out, gate_up, down = (
        weight(*size, bits, seed, device) for size in ((k, heads * width), (2 * f, k), (k, f))
    )  # fmt: skip
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    return Finish(out, None, gain.to(device), 1e-6, gate_up, None, down, None, counter)


def attended(shape: Shape, start: int, rows: int, chunk: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Means and sums of chunks, and the place they begin at; what a row does not see is NaN."""
    _, _, heads, groups, width = shape
    place = torch.tensor([start], dtype=torch.int32)
    kept = random(2, groups, max(400, start + rows), width).bfloat16()
    means, sums = attend(random(rows, heads * width).bfloat16(), *kept, place, chunk)
    for row in range(rows):
        seen = (start + row) // chunk + 1
        means[row, :, seen:] = torch.nan
        sums[row, :, seen:] = torch.nan
    return means.to(device), sums.to(device), place.to(device)


@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize(
    ("shape", "bits", "start", "rows", "chunk", "programs", "early"),
    [
        ((96, 160, 3, 1, 32), 16, 0, 1, 32, 3, 4),
        ((96, 160, 3, 1, 32), 16, 99, 3, 32, 3, 0),  # down waits for the rooms of the others
        ((96, 160, 3, 1, 32), 16, 300, 5, 32, 2, 1),
        ((96, 160, 3, 1, 32), 16, 120, 19, 32, 3, 0),
        ((96, 2208, 3, 1, 32), 16, 120, 16, 32, 2, 0),
        ((320, 1312, 4, 2, 64), 16, 254, 8, 64, 7, 3),
        ((96, 352, 3, 1, 32), 4, 260, 1, 128, 2, 1),
        ((96, 352, 3, 1, 32), 4, 2, 9, 128, 2, 1),
        ((96, 2208, 3, 1, 32), 4, 77, 13, 128, 2, 1),
        ((96, 352, 3, 1, 32), 4, 2, 25, 128, 2, 1),
        ((320, 1120, 4, 2, 64), 4, 5, 4, 16, 5, 0),
    ],
)
def test_programs_are_their_twin(
    shape: Shape, bits: int, start: int, rows: int, chunk: int, programs: int, early: int
) -> None:
    from kernels import finish_gluon
    from tests.kernels import gluon_in_torch

    of, x = some(shape, bits), random(rows, shape[0])
    means, sums, place = attended(shape, start, rows, chunk)
    expected = twin(x, means, sums, place, chunk, of)
    y = torch.full_like(x, torch.nan)
    if rows > finish_gluon.ROWS:
        means = merge(means, sums, place, chunk, torch.bfloat16)
    given = finish_gluon.arguments(x, means, sums, place, chunk, of, y, programs, early) | {"OVERLAP": False}
    memory = [x, means, sums, place, of.gain, of.counter, y, given["middle_ptr"], given["inner_ptr"]]
    memory += [part for each in (of.out, of.gate_up, of.down) for part in stream(each)[:2]]
    launches = gluon_in_torch.run(finish_gluon.kernel, given, programs, memory, of.counter)
    assert gluon_in_torch.races(launches) == 0
    assert of.counter.tolist() == [0]
    assert error(y, expected) <= BOUND


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [16, 4])
@pytest.mark.parametrize(("start", "rows"), [(0, 1), (130, 3), (390, 8), (1015, 9), (500, 16), (2000, 32)])
def test_one_launch_is_its_twin(bits: int, start: int, rows: int, device: str) -> None:
    """The default model's layers. The same bits every time, and however many rows: a race would show."""
    of, x = some(DEFAULT, bits, device), random(rows, DEFAULT[0]).to(device)
    means, sums, place = attended(DEFAULT, start, rows, 128, device)
    assert means.shape[2] <= MOST_CHUNKS
    first = kernels.finish(x, means, sums, place, 128, of)
    for _ in range(200):
        assert torch.equal(kernels.finish(x, means, sums, place, 128, of), first)
    assert of.counter.tolist() == [0]
    assert error(first, twin(x, means, sums, place, 128, of)) <= BOUND
    apart = [kernels.finish(x[i : i + 1], means[i : i + 1], sums[i : i + 1], place + i, 128, of) for i in range(rows)]
    assert torch.equal(first, torch.cat(apart))


@pytest.mark.parametrize(("change", "problem"), [({}, False), ({"out_bias": torch.zeros(96)}, True)])
def test_what_does_not_fit_goes_op_by_op(change: dict[str, Any], problem: bool) -> None:
    from kernels.finish_gluon import plan

    of = some((96, 160, 3, 1, 32), 16)._replace(**change)
    assert (plan(of, 1, 132, 232_448) is None) == problem
    assert plan(some((96, 160, 3, 1, 32), 16), 1, 132, 20_000) is None
    assert plan(some(DEFAULT, 16), 8, 132, 232_448) is not None
    assert plan(some(DEFAULT, 16), 8, 60, 232_448) is None
