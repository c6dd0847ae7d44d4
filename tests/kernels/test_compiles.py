"""Kernels written in Gluon compile for the GPU they were written for, on machines that have none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from kernels import launching
from model.quantised import to_q8
from tests.kernels.compiled import TYPES
from tests.kernels.test_finish import DEFAULT, some
from tests.kernels.test_pairs_block import few_bits, random

pytest.importorskip("triton")
NUMBERS = ("rows", "capacity", "eps", "N", "P", "x_stride")
"""Arguments of kernels that are no constants."""


@pytest.mark.slow
@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize(("rows", "bits"), [(1, 16), (3, 16), (16, 16), (32, 16), (1, 4), (8, 4)])
def test_the_rest_of_a_layer_fits_a_multiprocessor(rows: int, bits: int, tmp_path: Path) -> None:
    """The default model's shape on 132 multiprocessors of compute capability 9.0, beside the kernels around it."""
    from kernels import finish_gluon

    most = 232_448  # bytes of shared memory that a program can have there
    of = some(DEFAULT, bits)
    x, means = torch.zeros(rows, 896), torch.zeros(rows, 14, 8, 64).bfloat16()
    early = finish_gluon.plan(of, rows, 132, most)
    assert early is not None
    start = torch.zeros(1, dtype=torch.int32)
    given = finish_gluon.arguments(x, means, means[..., 0].float(), start, 128, of, x, 132, early) | {"OVERLAP": True}
    options = {"num_warps": finish_gluon.WARPS, "enable_fp_fusion": False, "maxnreg": finish_gluon.REGISTERS[bits]}
    shared = checked(finish_gluon.kernel, given, options, tmp_path, 16)
    assert shared <= (most if rows > 16 else most - finish_gluon.LEFT)


@pytest.mark.slow
@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize(("rows", "bits"), [(3, 16), (1, 8), (32, 8), (3, 4)])
def test_queries_keys_and_values_leave_room(rows: int, bits: int, tmp_path: Path) -> None:
    from kernels import norm_heads_gluon

    weight = random(1152, 896).bfloat16() if bits == 16 else few_bits(1152, 896, bits, "cpu")
    x, keys = torch.zeros(rows, 896), torch.zeros(2, 512, 64).bfloat16()
    start, bias = torch.zeros(1, dtype=torch.int32), torch.zeros(1152)
    q, rotation = torch.zeros(rows, 896).bfloat16(), torch.zeros(512, 64)
    given = norm_heads_gluon.arguments(x, bias, 1e-6, weight, bias, rotation, q, keys, keys, start)
    options = {"num_warps": norm_heads_gluon.WARPS[bits], "enable_fp_fusion": False}
    size = 8 if bits == 8 else 16  # eight neighbouring columns a thread
    assert checked(norm_heads_gluon._kernel, given | {"OVERLAP": True}, options, tmp_path, size) <= 32_768


@pytest.mark.slow
@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize(
    ("rows", "bits", "one"), [(3, 16, False), (1, 16, True), (1, 8, True), (3, 8.5, False), (16, 8.5, False)]
)
def test_scores_and_the_highest_of_segments(rows: int, bits: float, one: bool, tmp_path: Path) -> None:
    """bits: 8.5 are those of Q8_0."""
    from kernels import norm_scores_gluon

    made = random(2048, 896)
    weight: Any = {16: made.bfloat16(), 8: few_bits(2048, 896, 8, "cpu"), 8.5: to_q8(made)}[bits]
    x, gain, at = torch.zeros(rows, 896), torch.zeros(896).bfloat16(), torch.zeros(1, dtype=torch.int32)
    tops = torch.zeros(rows, 64)
    given = norm_scores_gluon.arguments(x, gain, 1e-6, weight, None, at if one else None, x, tops)
    options = {"num_warps": given["WARPS"], "enable_fp_fusion": False}
    if most := norm_scores_gluon.registers(given):
        options["maxnreg"] = most
    sizes = (16, 8) if bits == 8.5 else (16,)  # factors come in eight bytes
    shared = checked(norm_scores_gluon._kernel, given | {"OVERLAP": True}, options, tmp_path, *sizes)
    programs = 4 if bits == 16 else norm_scores_gluon.BESIDE  # that fit a multiprocessor
    assert shared + 1024 <= 233_472 // programs


def checked(kernel: Any, given: dict[str, Any], options: dict[str, Any], folder: Path, *sizes: int) -> int:
    """Compiles a kernel for compute capability 9.0; copies of `sizes` bytes, hardly a spill. Bytes of shared memory."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.experimental.gluon._runtime import GluonASTSource

    names = list(kernel.arg_names)
    numbers = {int: "i32", float: "fp32"}
    signature = {
        name: TYPES[value.dtype] if isinstance(value, torch.Tensor) else "constexpr" for name, value in given.items()
    }
    signature |= {name: numbers[type(given[name])] for name in names if name in NUMBERS and name in given}
    constants = {(i,): given[name] for i, name in enumerate(names) if signature[name] == "constexpr"}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name.endswith("_ptr")}
    compiled = triton.compile(
        GluonASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", 90, 32), options=options
    )
    ptx = compiled.asm["ptx"]
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?, (0x[0-9a-f]+)", ptx)
    assert set(copies) == {hex(size) for size in sizes}
    assert "griddepcontrol.wait" in ptx and "griddepcontrol.launch_dependents" in ptx
    (folder / "kernel.ptx").write_text(ptx)
    command = [get_ptxas(90).path, "-arch=sm_90a", "-v", str(folder / "kernel.ptx"), "-o", str(folder / "kernel")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill", said)]
    assert sum(spilled) <= 256, said
    return int(compiled.metadata.shared)
