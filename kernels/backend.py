"""The dispatch point: which implementation of an op runs, decided once for each op and device, and said once.

An op is one public function in `kernels/__init__.py`, which states and checks shapes, and one module per backend,
`<op>_<backend>.py`, each with a function of the op's name and the same signature. `reference` is always there: it
computes in fp32 and is obviously right rather than quick. The table below names the others, quickest first.

To add an op: copy the pair `rms_norm_reference.py`, `rms_norm_aten.py`; add its row to BACKENDS, its public function,
and its line in the table of `tests/kernels/test_pairs.py`.

`VIABLE_KERNELS=reference` (or another backend's name) asks for one backend everywhere; `use("reference")` does so in a
`with` block. What was asked for by name and cannot run is an error, not a fallback.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels import launching, native

log = logging.getLogger(__name__)

REFERENCE = "reference"
VARIABLE = "VIABLE_KERNELS"

# Of `kernels.block`, `latent`, `experts`, `ranking`, and `drafting`, whose four functions are one op here. Triton's
# interpreter runs the same kernels on a CPU.
BLOCK_OPS = (
    "absorb",
    "add_norm",
    "attend",
    "attend_latent",
    "drafting",
    "embed",
    "experts_add",
    "experts_swiglu",
    "keep",
    "linear_add",
    "mask_logits",
    "merge",
    "merge_latent",
    "norm_scores",
    "norm_linear",
    "norm_swiglu",
    "perturb",
    "rank",
    "route",
    "swiglu",
    "turn",
    "widen",
)
PRODUCTS = ("linear_add", "norm_scores", "norm_linear", "norm_swiglu")
TOGETHER = ("finish", "norm_heads")
"""Several of them in one kernel; elsewhere they are called one after the other, which the twin does."""
ON_GPU: dict[str, tuple[str, ...]] = dict.fromkeys(("cuda", "cpu") if launching.INTERPRETED else ("cuda",), ("triton",))

# op -> device type -> backends, quickest first.
BACKENDS: dict[str, dict[str, tuple[str, ...]]] = {
    "rms_norm": {"cpu": ("aten",), "cuda": ("aten",)},
    "int8_linear": {"cpu": ("vnni", "onednn", "aten", "stream"), "cuda": ("stream",)},
    "int4_linear": {"cpu": ("aten", "stream"), "cuda": ("stream",)},
    "expert_linear": {"cpu": ("loop", "grouped"), "cuda": ("grouped", "loop")},
    "layer": {"cpu": ("vnni",)},
    **{op: {"cuda": ("gluon",)} for op in TOGETHER},
    **dict.fromkeys(BLOCK_OPS, ON_GPU),
    **{op: {device: ("gluon", *names) for device, names in ON_GPU.items()} for op in (*PRODUCTS, "attend")},
}


class BackendError(RuntimeError):
    """A backend was asked for by name and is not there."""


class Packed(NamedTuple):
    """A weight [N, K] in the layout of one backend, which is the one that can use it."""

    implementation: Any
    shape: tuple[int, ...]
    data: Any


def packed(op: str, device: str, shape: tuple[int, ...], *parts: Tensor, wanted: str | None = None) -> Packed:
    """`parts` in the layout of the backend that `op` has on a device type now; see `implementation`."""
    chosen = implementation(op, device, wanted)
    return Packed(chosen, shape, chosen.pack(*parts))


@cache
def onednn_int8_is_exact() -> bool:
    """Is oneDNN there, and are its eight-bit products exact on this processor?

    Without VNNI they are summed in pairs of sixteen bits, which overflow.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return False
    module = importlib.import_module("kernels.int8_linear_onednn")
    rows = torch.tensor([[127.0], [-127.0]]).expand(2, 64)  # of both signs: inputs may be shifted to be positive
    try:
        y: Tensor = module.int8_linear(
            rows, module.pack(torch.full((16, 64), 127, dtype=torch.int8), torch.ones(16)), None
        )
    except RuntimeError as error:  # a build of PyTorch without this product
        log.info("int8_linear: onednn cannot run here: %s", error)
        return False
    return torch.allclose(y, 127 * 64 * rows[:, :1], rtol=1e-5)


@cache
def onednn_int8_is_quick() -> bool:
    """Has oneDNN more for this processor than its reference loop, which takes hundreds of times as long?"""
    quick = _seconds_of_int8("onednn") < 20 * _seconds_of_int8("aten")
    if not quick:
        log.info("int8_linear: onednn has nothing but its reference loop for this processor")
    return quick


def _seconds_of_int8(name: str) -> float:
    """Of one thread, which is not counted while others use the processor.

    The answer chooses the bits of every product: a machine that happens to be busy must not change it. By the clock on
    the wall, two threads beside busy programs were once taken for the reference loop.
    """
    module = importlib.import_module(f"kernels.int8_linear_{name}")
    data = module.pack(torch.ones(512, 512, dtype=torch.int8), torch.ones(512))
    times = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(8):
            begin = time.thread_time()
            module.int8_linear(torch.ones(1, 512), data, None)
            times.append(time.thread_time() - begin)
    finally:
        torch.set_num_threads(threads)
    return min(times)


# When a backend can run on this machine. No entry: always.
AVAILABLE: dict[tuple[str, str], Callable[[], bool]] = {
    **{(op, "vnni"): lambda: native.lanes() > 0 for op in ("int8_linear", "layer")},
    ("int8_linear", "onednn"): lambda: onednn_int8_is_exact() and onednn_int8_is_quick(),
    **{(op, "triton"): launching.runs for op in BLOCK_OPS},
    **{(op, "gluon"): launching.has_matrix_units for op in (*PRODUCTS, *TOGETHER, "attend")},
}

_chosen: dict[tuple[str, str, str | None], Any] = {}
_asked: str | None = os.environ.get(VARIABLE) or None


def implementation(op: str, device: str, wanted: str | None = None) -> Any:
    """The module that implements `op` on a device type ("cpu", "cuda"): the quickest, or the backend `wanted`."""
    found = _chosen.get((op, device, wanted))
    if found is None:
        found = _chosen[op, device, wanted] = _resolve(op, device, wanted)
    return found


@cache
def quickest(op: str, device: str) -> Any:
    """The module that implements `op` as part of another op, whatever backend was asked for by name for that one."""
    return importlib.import_module(f"kernels.{op}_{backends(op, device)[0]}")


def backends(op: str, device: str) -> list[str]:
    """The backends of `op` that can run on this machine, quickest first; `reference` is the last."""
    names = BACKENDS[op].get(device, ())
    return [name for name in names if AVAILABLE.get((op, name), lambda: True)()] + [REFERENCE]


@contextmanager
def use(backend: str | None) -> Iterator[None]:
    """Ask for one backend inside the block; None: the quickest. Not for concurrent use: it is for tests."""
    global _asked
    before, _asked = _asked, backend
    _chosen.clear()
    try:
        yield
    finally:
        _asked = before
        _chosen.clear()


def _resolve(op: str, device: str, wanted: str | None) -> Any:
    names = backends(op, device)
    name = _asked or wanted or names[0]
    if name not in names:
        raise BackendError(f"no backend '{name}' for {op} on {device} here (there is: {', '.join(names)})")
    log.info("%s on %s: %s", op, device, name)
    return importlib.import_module(f"kernels.{op}_{name}")
