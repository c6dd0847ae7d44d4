"""The rest of a layer behind its attention in one launch: `finish_phases_gluon`, and how it is started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from triton.runtime import driver

from kernels import finish_reference, merge_triton
from kernels.finish_phases_gluon import kernel
from kernels.finishing import MOST_CHUNKS, Finish
from kernels.grid_gluon import multiprocessors
from kernels.launching import SIDE_BY_SIDE, options, tokens_of
from kernels.rooms_gluon import TILE
from kernels.weights import Stream, stream

WARPS = 8
REGISTERS: dict[int, int | None] = {16: 128, 4: None}
"""Of a thread, by bits: with 128, kernels before and behind this one have room beside it."""
DEPTH = {16: 3, 4: 20}
"""Groups of rooms that are on their way at once, by bits."""
ROWS = 4
"""Whose chunks of attention this kernel puts together. Of more, every program would read too much."""
SPARE = 8192
"""Bytes of shared memory that the compiler may need."""
LEFT = 36 * 1024
"""Bytes of shared memory that are left to other kernels on a multiprocessor."""
ROOM = 4096
"""Bytes of one chunk of a tile."""
SQUARED = 512
"""Bytes of sums of squares, at most."""


def finish(x: Tensor, means: Tensor, sums: Tensor, start: Tensor, chunk: int, of: Finish) -> Tensor:
    early = plan(of, len(x), multiprocessors(), shared_most())
    # What is too large for one number of rows goes op by op for all: every row is added up in one order.
    others = [plan(of, rows, multiprocessors(), shared_most()) for rows in (ROWS, SIDE_BY_SIDE + 1)]
    if early is None or None in others or means.shape[2] > MOST_CHUNKS or means.dtype != torch.bfloat16:
        return finish_reference.finish(x, means, sums, start, chunk, of)
    x = x.contiguous()
    if len(x) > ROWS:
        means = merge_triton.merge(means, sums, start, chunk, torch.bfloat16)
    y = torch.empty_like(x)
    given = arguments(x, means.contiguous(), sums.contiguous(), start, chunk, of, y, multiprocessors(), early)
    kernel[(multiprocessors(),)](**given, **options(WARPS, REGISTERS[given["BITS"]]))
    return y


def at_once(rows: int) -> int:
    """Rows whose chunks are put together at once; 0 where they were before."""
    return next((some for some in (1, ROWS) if some >= rows), 0)


def shared_most() -> int:
    """Bytes of shared memory that a program can have."""
    most: int = driver.active.utils.get_device_properties(torch.cuda.current_device())["max_shared_mem"]
    return most


def plan(of: Finish, rows: int, count: int, shared: int) -> int | None:
    """Rooms of their own that down gets, where `count` programs have so much shared memory each; None: too little."""
    out, gate_up, down = (stream(weight) for weight in (of.out, of.gate_up, of.down))
    parts = (out, gate_up, down)
    if any(part.bits != out.bits or part.group != out.group or part.shape[1] % 32 for part in parts):
        return None
    if out.bits not in (16, 4) or any(each is not None for each in (of.out_bias, of.gate_up_bias, of.down_bias)):
        return None
    columns = 32 * WARPS * (4 if out.bits == 4 else 1)  # of a room

    def per_program(features: int) -> int:
        return -(-features // (TILE.value * count))

    def needed(part: Stream, features: int) -> int:
        return per_program(features) * -(-part.shape[1] // columns)

    used = needed(out, out.shape[0]) + 2 * needed(gate_up, down.shape[1])
    wanted = needed(down, out.shape[0])
    merged = 2 * at_once(rows) * max(1 << (out.shape[1] - 1).bit_length(), columns)
    meeting = per_program(down.shape[1]) * ROOM if rows > SIDE_BY_SIDE else 0
    most = (shared - SPARE - merged - meeting) // ROOM - used
    early = min(most, max((shared - LEFT - SQUARED - merged - meeting) // ROOM - used, 0), wanted)
    return early if early >= 0 and wanted <= early + used else None


_times: list[Tensor] = []


@contextmanager
def timed(times: list[Tensor]) -> Iterator[None]:
    """Launches inside the block keep time, one after the other in `times`: int64 [programs, 8] each; see `_tick`."""
    _times[:] = times
    try:
        yield
    finally:
        _times.clear()


def arguments(
    x: Tensor, means: Tensor, sums: Tensor, start: Tensor, chunk: int, of: Finish, y: Tensor, count: int, early: int
) -> dict[str, Any]:
    """What the kernel is given, by name. count: programs. early: rooms that down has of its own.

    means: [R, H, chunks, D], or [R, H·D], put together.
    """
    out, gate_up, down = (stream(weight) for weight in (of.out, of.gate_up, of.down))
    # What phases leave for one another.
    middle = torch.empty_like(x)
    inner = torch.empty(len(x), down.shape[1], dtype=torch.bfloat16, device=x.device)
    heads, chunks, width = means.shape[1:] if means.ndim == 4 else (1, 1, out.shape[1])
    times = _times.pop(0) if _times else None
    return {
        "x_ptr": x, "means_ptr": means, "sums_ptr": sums, "start_ptr": start, "gain_ptr": of.gain,
        "out_ptr": out.numbers, "out_factor_ptr": out.factors, "gate_ptr": gate_up.numbers,
        "gate_factor_ptr": gate_up.factors, "down_ptr": down.numbers, "down_factor_ptr": down.factors,
        "middle_ptr": middle, "inner_ptr": inner, "y_ptr": y, "counter_ptr": of.counter,
        "times_ptr": of.counter if times is None else times, "TIMED": times is not None,
        "rows": len(x), "eps": of.eps, "K": out.shape[0], "F": down.shape[1], "HEADS": heads,
        "WIDTH": width, "CHUNK": chunk, "CHUNKS": chunks, "AT_ONCE": at_once(len(x)),
        "PROGRAMS": count, "WARPS": WARPS, "BITS": out.bits, "GROUP": out.group, "EARLY": early,
        "DEPTH": DEPTH[out.bits], "TOKENS": tokens_of(len(x)), "WIDE": len(x) > SIDE_BY_SIDE,
    }  # fmt: skip
