"""A pass of fixed shape, recorded once and replayed: the host starts a hundred kernels with one call."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")


class Pool:
    """Memory for graphs of which no two run at once: they share it, and what is run before one is recorded has it, too.

    On one stream, since what is free again is given to the stream that had it.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.memory = torch.cuda.MemPool()


class Recorded(Generic[T]):
    """Calls `compute` and returns what it returned, in the same memory each time.

    `compute` must read its inputs from memory that stays where it is. On CUDA it becomes a graph on first use; on a
    CPU it is simply called.
    """

    def __init__(self, compute: Callable[[], T], pool: Pool | None) -> None:
        """pool: None on a CPU."""
        self._compute = compute
        self._pool = pool
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: list[T] = []

    def __call__(self) -> T:
        if self._pool is None:
            return self._compute()
        if self._graph is None:
            self._graph = self._record(self._pool)
        self._graph.replay()
        return self._result[0]

    def _record(self, pool: Pool) -> torch.cuda.CUDAGraph:
        # Kernels are compiled and libraries initialised by a run that is not recorded; it writes what the replay will.
        pool.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(pool.stream), torch.cuda.use_mem_pool(pool.memory):
            self._compute()
        torch.cuda.current_stream().wait_stream(pool.stream)
        graph = torch.cuda.CUDAGraph()
        handle: Any = pool.memory.id
        with _uncollected(), torch.cuda.graph(graph, pool=handle, stream=pool.stream):
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
