"""Every backend of every op against its reference, from one table of bounds; `test_pairs_block.py` has a block's ops.

Error: RMS of the difference over RMS of the reference.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import kernels
from kernels import backend, int8_linear_vnni, native, vnni

# fp32 arithmetic; or inputs rounded to bfloat16, 2^-9 each; or to twice eight bits of their row's maximum.
BOUNDS = {
    ("rms_norm", "aten"): 1e-6,
    ("int8_linear", "vnni"): 5e-5,
    ("int8_linear", "onednn"): 5e-5,
    ("int8_linear", "aten"): 4e-3,
    ("int8_linear", "stream"): 4e-3,
    ("int4_linear", "aten"): 4e-3,
    ("int4_linear", "stream"): 4e-3,
    ("expert_linear", "loop"): 1e-6,
    ("expert_linear", "grouped"): 1e-6,
}
ROWS = (1, 2, 3, 17, 63, 64, 65, 1000)


def cases() -> list[tuple[str, str]]:
    ops = [op for op in backend.BACKENDS if op not in (*backend.BLOCK_OPS, "layer")]  # test_layer.py has that one
    return [(op, name) for op in ops for name in backend.backends(op, "cpu")[:-1]]


def error(ours: Tensor, reference: Tensor) -> float:
    assert ours.shape == reference.shape
    difference = (ours.float() - reference.float()).pow(2).mean().sqrt()
    return float(difference / reference.float().pow(2).mean().sqrt())


def inputs(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[rows, columns] whose rows differ in size, laid out with gaps."""
    random = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 2 * columns, generator=random)[:, ::2] * torch.logspace(-2, 2, rows).unsqueeze(-1)
    return x.to(dtype)


def run(op: str, x: Tensor, out: int = 48) -> Tensor:
    """`op` by the backend that is asked for, on weights that depend on nothing but the sizes."""
    random = torch.Generator().manual_seed(7)
    columns = x.shape[-1]
    if op == "rms_norm":
        return kernels.rms_norm(x, torch.randn(columns, generator=random), 1e-6)
    bias = torch.randn(out, generator=random)
    if op == "int8_linear":
        codes = torch.randint(-127, 128, (out, columns), generator=random, dtype=torch.int8)
        return kernels.int8_linear(x, kernels.pack_int8(codes, torch.rand(out, generator=random)), bias)
    if op == "int4_linear":
        codes = torch.randint(0, 16, (out, columns), generator=random, dtype=torch.uint8)
        factors = torch.rand(2, out, columns // 32, generator=random).bfloat16()
        return kernels.int4_linear(x, kernels.pack_int4(codes, *factors), bias)
    if op == "expert_linear":
        x = x.float() if x.dtype == torch.float64 else x  # it is for at most fp32
        rows = x.reshape(-1, columns)
        # Uneven runs, an empty one, and for more than one row some behind the last.
        ends = torch.tensor([len(rows) // 3, len(rows) // 3, len(rows) - (len(rows) > 1)], dtype=torch.int32)
        weight = torch.randn(3, out, columns, generator=random).to(x.dtype)
        y = kernels.expert_linear(rows, weight, ends)
        y[int(ends[-1]) :] = 0  # undefined
        return y.view(*x.shape[:-1], out)
    raise AssertionError(f"no case for {op}: add one")


def test_the_table_is_complete() -> None:
    assert set(cases()) <= set(BOUNDS)


@pytest.mark.parametrize("columns", (48, 76, 512))
@pytest.mark.parametrize("name", [name for op, name in cases() if op == "int8_linear"])
def test_a_norm_in_front_is_the_norm_in_front(name: str, columns: int) -> None:
    random = torch.Generator().manual_seed(columns)
    x, gain = torch.randn(2, 4, columns, generator=random), 1 + torch.randn(columns, generator=random) / 9
    codes = torch.randint(-127, 128, (40, columns), generator=random, dtype=torch.int8)
    scales = torch.rand(40, generator=random)
    expected = F.linear(F.rms_norm(x, gain.shape, gain, 1e-3), codes.float() * scales.unsqueeze(-1))
    with backend.use(name):
        packed = kernels.pack_int8(codes, scales)
    y = kernels.norm_int8_linear(x, gain, 1e-3, packed)
    alone = kernels.norm_int8_linear(x[1, 2:3], gain, 1e-3, packed)
    assert error(y, expected) <= BOUNDS["int8_linear", name]
    assert name != "vnni" or torch.equal(alone[0], y[1, 2])
    with pytest.raises(ValueError, match="a gain of shape"):
        kernels.norm_int8_linear(x, gain[1:], 1e-3, packed)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("op", "name"), cases())
def test_backend_equals_reference(op: str, name: str, rows: int) -> None:
    x = inputs(rows, 96)
    with backend.use(backend.REFERENCE):
        expected = run(op, x)
    with backend.use(name):
        ours = run(op, x)
    assert error(ours, expected) <= BOUNDS[op, name]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("op", "name"), cases())
def test_other_dtypes_and_shapes(op: str, name: str, dtype: torch.dtype) -> None:
    x = inputs(6, 128, dtype).view(2, 3, 128)
    with backend.use(backend.REFERENCE):
        expected = run(op, x)
    with backend.use(name):
        ours = run(op, x)
    assert ours.shape == (2, 3, ours.shape[-1])
    assert error(ours, expected) <= BOUNDS[op, name]


@pytest.mark.parametrize("rows", (2, 3, 8, 33))
@pytest.mark.parametrize("name", [name for op, name in cases() if op == "int8_linear"])
def test_a_row_does_not_depend_on_its_neighbours(name: str, rows: int) -> None:
    x = inputs(rows, 96)
    with backend.use(name):
        together = run("int8_linear", x)
        alone = torch.cat([run("int8_linear", row.unsqueeze(0)) for row in x])
    bound = 0 if name in ("vnni", "onednn") else BOUNDS["int8_linear", name]
    assert error(together, alone) <= bound


@pytest.mark.parametrize("rows", (3, 40))
@pytest.mark.parametrize("columns", (24, 71, 72, 88))
@pytest.mark.parametrize("name", [name for op, name in cases() if op == "int8_linear"])
def test_columns_that_fill_no_vector(name: str, columns: int, rows: int) -> None:
    x = inputs(rows, columns)
    with backend.use(backend.REFERENCE):
        expected = run("int8_linear", x)
    with backend.use(name):
        assert error(run("int8_linear", x), expected) <= BOUNDS["int8_linear", name]


@pytest.mark.parametrize("name", [name for op, name in cases() if op == "int8_linear"])
def test_rows_of_zeros_and_of_huge_numbers(name: str) -> None:
    x = torch.zeros(3, 64)
    x[1] = 1e30
    with backend.use(name):
        y = kernels.int8_linear(x, kernels.pack_int8(torch.ones(16, 64, dtype=torch.int8), torch.ones(16)))
    assert (y[0] == 0).all() and (y[2] == 0).all()
    assert torch.allclose(y[1], torch.tensor(64e30), rtol=1e-2)


@pytest.mark.skipif(native.lanes() != 16, reason="vectors of 512 bits run those of 256")
@pytest.mark.parametrize("rows", (1, 2, 3, 4, 7, 40))
def test_half_a_vector_gives_the_same(rows: int) -> None:
    x = inputs(rows, 96)
    codes = torch.randint(-127, 128, (80, 96), generator=torch.Generator().manual_seed(7), dtype=torch.int8)
    wide, narrow = (
        int8_linear_vnni.linear(x, vnni.pack(codes, torch.ones(80), lanes), None, lanes) for lanes in (16, 8)
    )
    assert torch.equal(wide, narrow)


@pytest.mark.skipif(not native.lanes(), reason="no such instructions here")
@pytest.mark.parametrize("threads", (1, 3))
def test_threads_do_not_change_a_bit(threads: int) -> None:
    x = inputs(5, 96)
    with backend.use("vnni"):
        expected, before = run("int8_linear", x, 208), torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            assert torch.equal(run("int8_linear", x, 208), expected)
        finally:
            torch.set_num_threads(before)


def test_a_backend_that_is_not_there_is_an_error() -> None:
    with backend.use("abacus"), pytest.raises(backend.BackendError, match="abacus"):
        kernels.rms_norm(torch.ones(1, 4), torch.ones(4), 1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kernels.rms_norm(torch.ones(2, 3), torch.ones(4), 1e-6), "rows of 3"),
        (lambda: kernels.pack_int8(torch.ones(4, 4), torch.ones(4)), "torch.float32"),
        (lambda: kernels.pack_int8(torch.ones(4, 4, dtype=torch.int8), torch.ones(3)), "3 scales for 4 rows"),
        (
            lambda: kernels.expert_linear(torch.ones(2, 4), torch.ones(3, 5, 4), torch.ones(2, dtype=torch.int32)),
            "with 2 ends",
        ),
        (
            lambda: kernels.int8_linear(
                torch.ones(1, 5), kernels.pack_int8(torch.ones(4, 4, dtype=torch.int8), torch.ones(4))
            ),
            "rows of 5",
        ),
        (
            lambda: kernels.pack_int4(torch.ones(16, 48, dtype=torch.uint8), *torch.ones(2, 16, 1).bfloat16()),
            "groups of 48",
        ),
    ],
)
def test_misuse_names_the_value(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=words):
        call()
