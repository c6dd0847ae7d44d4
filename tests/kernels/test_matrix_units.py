"""Which products go to matrix units, asked without a GPU."""

from __future__ import annotations

import pytest
import torch

from kernels.weights import stream

pytest.importorskip("triton")


@pytest.mark.parametrize("op", ["norm_linear", "norm_scores", "norm_swiglu", "linear_add", "linear_add_long"])
def test_full_precision_is_left_to_plain_multiply_adds(op: str) -> None:
    from kernels.matrix_gluon import reads

    assert not reads(stream(torch.zeros(8, 64)), op)


@pytest.mark.parametrize(("dtype", "columns", "read"), [(torch.bfloat16, 63, False), (torch.bfloat16, 4864, True)])
def test_only_whole_copies_that_fit_are_read(
    dtype: torch.dtype, columns: int, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernels import matrix_gluon

    monkeypatch.setattr(matrix_gluon, "staged_most", lambda: 8 * 4864 * 2)
    weight = stream(torch.zeros(64, columns, dtype=dtype))
    assert matrix_gluon.reads(weight, "linear_add_long") is read
    assert not matrix_gluon.reads(weight, "norm_swiglu", parts=2)
