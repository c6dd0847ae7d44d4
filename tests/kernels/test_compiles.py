"""Kernels written in Gluon compile for the GPU they were written for, on machines that have none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernels import launching

pytest.importorskip("triton")

POINTERS = {
    "x_ptr": "*fp32", "table_ptr": "*i64", "rotation_ptr": "*fp32", "start_ptr": "*i32", "q_ptr": "*bf16",
    "means_ptr": "*fp32", "sums_ptr": "*fp32", "inner_ptr": "*bf16", "cache_ptr": "*bf16",
    "counter_ptr": "*i32", "times_ptr": "*i32",
}  # fmt: skip
NUMBERS = dict.fromkeys(("first", "last", "rows", "capacity", "chunks"), "i32") | {"eps": "fp32", "scale": "fp32"}


@pytest.mark.slow
@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize("bits", [16, 4])
def test_all_layers_in_one_launch_fit_a_multiprocessor(bits: int, tmp_path: Path) -> None:
    """The default model's shape on 132 multiprocessors of compute capability 9.0."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.experimental.gluon._runtime import GluonASTSource

    from kernels.layers_gluon import SPARE, WARPS, WHOLE, kernel

    most = 232_448  # bytes of shared memory that a program can have there
    of_bits = {16: ("*bf16", "*bf16", "*bf16", 14), 4: ("*i32", "*i32", "*fp32", 5)}
    weight, factor, gain, turn = of_bits[bits]
    given = POINTERS | NUMBERS | {"weight_ptr": weight, "factor_ptr": factor, "gain_ptr": gain}
    constants: dict[str, Any] = {
        "K": 896, "F": 4864, "HEADS": 14, "GROUPS": 2, "WIDTH": 64, "CHUNK": 256, "PROGRAMS": 132, "WARPS": WARPS,
        "BITS": bits, "GROUP": 32, "BIAS": True, "ROOMS": turn, "PHASE": WHOLE, "TIMED": False,
    }  # fmt: skip
    names = list(kernel.arg_names)
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name.endswith("_ptr")}
    source = GluonASTSource(
        kernel,
        {name: given.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in constants.items()},
        aligned,
    )
    compiled = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": WARPS, "enable_fp_fusion": False}
    )
    assert most - SPARE - 4096 <= compiled.metadata.shared <= most if bits == 16 else compiled.metadata.shared <= most
    ptx = compiled.asm["ptx"]
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?, (0x[0-9a-f]+)", ptx)
    assert copies and set(copies) == {"0x10"}
    (tmp_path / "kernel.ptx").write_text(ptx)
    command = [get_ptxas(90).path, "-arch=sm_90a", "-v", str(tmp_path / "kernel.ptx"), "-o", str(tmp_path / "kernel")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill", said)]
    assert sum(spilled) <= 256, said
