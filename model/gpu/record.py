"""A pass of fixed shape, recorded once and replayed: the host starts a hundred kernels with one call."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")


class Recorded(Generic[T]):
    """Calls `compute` and returns what it returned, in the same memory each time.

    `compute` must read its inputs from memory that stays where it is. On CUDA it becomes a graph on first use; on a
    CPU it is simply called.
    """

    def __init__(self, compute: Callable[[], T], device: torch.device, pool: Any) -> None:
        """pool: what `torch.cuda.graph_pool_handle` gave; graphs that never run at once share its memory."""
        self._compute = compute
        self._device = device
        self._pool = pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: list[T] = []

    def __call__(self) -> T:
        if self._device.type != "cuda":
            return self._compute()
        if self._graph is None:
            self._graph = self._record()
        self._graph.replay()
        return self._result[0]

    def _record(self) -> torch.cuda.CUDAGraph:
        # Kernels are compiled and libraries initialised by a run that is not recorded; it writes what the replay will.
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            self._compute()
        torch.cuda.current_stream(self._device).wait_stream(side)
        # What that run worked in is kept for its stream alone, and a graph has memory of its own: give it back.
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        with _uncollected(), torch.cuda.graph(graph, pool=self._pool):
            self._result = [self._compute()]
        return graph


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is collected meanwhile: giving another graph's memory back during a recording aborts the process."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
