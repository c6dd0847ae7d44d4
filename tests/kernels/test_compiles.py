"""Kernels written in Gluon compile for the GPU they were written for, on machines that have none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

from kernels import launching
from tests.kernels.compiled import TYPES
from tests.kernels.test_finish import DEFAULT, some

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.skipif(launching.INTERPRETED, reason="kernels are decorated for Triton's interpreter")
@pytest.mark.parametrize(("rows", "bits"), [(1, 16), (3, 16), (32, 16), (1, 4), (8, 4)])
def test_the_rest_of_a_layer_fits_a_multiprocessor(rows: int, bits: int, tmp_path: Path) -> None:
    """The default model's shape on 132 multiprocessors of compute capability 9.0, beside the kernels around it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.experimental.gluon._runtime import GluonASTSource

    from kernels import finish_gluon

    most = 232_448  # bytes of shared memory that a program can have there
    of = some(DEFAULT, bits)
    x, means = torch.zeros(rows, 896), torch.zeros(rows, 14, 8, 64).bfloat16()
    early = finish_gluon.plan(of, rows, 132, most)
    assert early is not None
    start = torch.zeros(1, dtype=torch.int32)
    given = finish_gluon.arguments(x, means, means[..., 0].float(), start, 128, of, x, 132, early) | {"OVERLAP": True}
    kernel, names = finish_gluon.kernel, list(finish_gluon.kernel.arg_names)
    signature = dict.fromkeys(names, "constexpr") | {"rows": "i32", "eps": "fp32"}
    signature |= {name: TYPES[value.dtype] for name, value in given.items() if isinstance(value, torch.Tensor)}
    constants = {(i,): given[name] for i, name in enumerate(names) if signature[name] == "constexpr"}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name.endswith("_ptr")}
    options = {"num_warps": finish_gluon.WARPS, "enable_fp_fusion": False, "maxnreg": finish_gluon.REGISTERS[bits]}
    compiled = triton.compile(
        GluonASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", 90, 32), options=options
    )
    assert compiled.metadata.shared <= (most if rows > 4 else most - finish_gluon.LEFT)
    ptx = compiled.asm["ptx"]
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?, (0x[0-9a-f]+)", ptx)
    assert copies and set(copies) == {"0x10"}
    assert "griddepcontrol.wait" in ptx and "griddepcontrol.launch_dependents" in ptx
    (tmp_path / "kernel.ptx").write_text(ptx)
    command = [get_ptxas(90).path, "-arch=sm_90a", "-v", str(tmp_path / "kernel.ptx"), "-o", str(tmp_path / "kernel")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill", said)]
    assert sum(spilled) <= 256, said
