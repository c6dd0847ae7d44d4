"""Kernels compiled for a GPU on a machine that has none: what was launched, for which card, and what the card says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.int8: "*i8",
}
OPTIONS = ("num_warps", "maxnreg", "launch_pdl", "enable_fp_fusion")


class Compiled(NamedTuple):
    """What a program needs."""

    registers: int
    spilled: int  # bytes
    shared: int  # bytes
    ptx: str


class Compiling:
    """Stands in the place of a kernel; a launch compiles it for compute capability 9.0, and computes nothing."""

    def __init__(self, kernel: Any, folder: Path) -> None:
        self._kernel = kernel
        self._folder = folder
        self.found: list[Compiled] = []

    def __getitem__(self, grid: Any) -> Any:
        return self._launch

    def _launch(self, *args: Any, **given: Any) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.backends.nvidia.compiler import get_ptxas
        from triton.compiler import ASTSource

        options = {name: given.pop(name) for name in OPTIONS if name in given}
        names = list(self._kernel.arg_names)
        values = dict(zip(names, args, strict=False)) | given
        constants = {(names.index(name),): value for name, value in given.items()}
        signature, aligned = {}, {}
        for place, name in enumerate(names):
            value = values[name]
            if name in given:
                signature[name] = "constexpr"
            elif isinstance(value, Tensor):
                signature[name] = TYPES[value.dtype]
                aligned[place,] = [["tt.divisibility", 16]]
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
                if isinstance(value, int) and value == 1:
                    signature[name] = "constexpr"
                    constants[place,] = 1
                elif isinstance(value, int) and value % 16 == 0:
                    aligned[place,] = [["tt.divisibility", 16]]
        compiled = triton.compile(
            ASTSource(self._kernel, signature, constants, aligned),
            target=GPUTarget("cuda", 90, 32),
            options=options,
        )
        ptx = compiled.asm["ptx"]
        path = self._folder / f"{self._kernel.__name__}.ptx"
        path.write_text(ptx)
        command = [get_ptxas(90).path, "-arch=sm_90a", "-v", str(path), "-o", str(path.with_suffix(".cubin"))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        (registers,) = re.findall(r"Used (\d+) registers", said)
        spilled = sum(int(count) for count in re.findall(r"(\d+) bytes spill", said))
        self.found.append(Compiled(int(registers), spilled, compiled.metadata.shared, ptx))
