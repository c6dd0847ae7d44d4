"""The dispatch point: which implementation of an op runs, decided once for each op and device, and said once.

An op is one public function in `kernels/__init__.py`, which states and checks shapes, and one module per backend,
`<op>_<backend>.py`, each with a function of the op's name and the same signature. `reference` is always there: it
computes in fp32 and is obviously right rather than quick. The table below names the others, quickest first.

`VIABLE_KERNELS=reference` (or another backend's name) asks for one backend everywhere; `use("reference")` does so in a
`with` block. What was asked for by name and cannot run is an error, not a fallback.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

log = logging.getLogger(__name__)

REFERENCE = "reference"
VARIABLE = "VIABLE_KERNELS"

# op -> device type -> backends, quickest first. To add an op, copy the `rms_norm` pair and its row.
BACKENDS: dict[str, dict[str, tuple[str, ...]]] = {
    "rms_norm": {"cpu": ("aten",), "cuda": ("aten",)},
    "int8_linear": {"cpu": ("onednn",)},
    "int4_linear": {"cpu": ("aten",)},
}

# When a backend can run on this machine. No entry: always.
AVAILABLE: dict[str, Callable[[], bool]] = {
    "onednn": lambda: torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise"),
}


class BackendError(RuntimeError):
    """A backend was asked for by name and is not there."""


_chosen: dict[tuple[str, str], Any] = {}
_asked: str | None = os.environ.get(VARIABLE) or None


def implementation(op: str, device: str) -> Any:
    """The module that implements `op` on a device type ("cpu", "cuda")."""
    found = _chosen.get((op, device))
    if found is None:
        found = _chosen[op, device] = _resolve(op, device)
    return found


def backends(op: str, device: str) -> list[str]:
    """The backends of `op` that can run on this machine, quickest first; `reference` is the last."""
    names = BACKENDS[op].get(device, ())
    return [name for name in names if AVAILABLE.get(name, lambda: True)()] + [REFERENCE]


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


def _resolve(op: str, device: str) -> Any:
    names = backends(op, device)
    name = _asked or names[0]
    if name not in names:
        raise BackendError(f"no backend '{name}' for {op} on {device} here (there is: {', '.join(names)})")
    log.info("%s on %s: %s", op, device, name)
    return importlib.import_module(f"kernels.{op}_{name}")
