"""All layers of a decoder in one launch: `layers_phases_gluon`, and how it is started."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from triton.runtime import driver

from kernels.layers_phases_gluon import ALL, kernel
from kernels.stack import CHUNK, PHASES, LayerWeights, Stack, plan

WARPS = 8
WHOLE = ALL.value
"""All phases of all layers."""
ROOM = 4096
"""Bytes of one chunk of a tile."""
SPARE = 8192
"""Bytes of shared memory that the compiler may need."""


def layers(x: Tensor, stack: Stack, rotation: Tensor, start: Tensor) -> Tensor:
    """One launch; `by_phases` is the same in many."""
    y = x.clone()
    _launch(y, stack, rotation, start, 0, len(stack.layers), WHOLE)
    return y


def by_phases(x: Tensor, stack: Stack, rotation: Tensor, start: Tensor) -> Tensor:
    """Phase by phase: no program waits for another."""
    y = x.clone()
    for layer in range(len(stack.layers)):
        for phase in range(PHASES):
            _launch(y, stack, rotation, start, layer, layer + 1, phase)
    return y


def problem(layer: LayerWeights) -> str | None:
    """Why layers like this one do not fit this GPU; None if they do."""
    return None if plan(layer, programs(), rooms_here(), WARPS) else "a program would need more shared memory"


def timed(x: Tensor, stack: Stack, rotation: Tensor, start: Tensor) -> Tensor:
    """One launch that keeps time: int64 [L, phases, programs, 3], clocks of the multiprocessors.

    Before a program waits for the phase in front, when it goes on, and when it has written. Clocks
    of different multiprocessors have nothing to do with one another.
    """
    times = torch.zeros(len(stack.layers), PHASES, programs(), 3, dtype=torch.int64, device=x.device)
    span = (0, len(stack.layers), WHOLE)
    given = arguments(x.clone(), stack, rotation, start, span, (programs(), rooms_here()))
    _start(given | {"times_ptr": times, "TIMED": True})
    return times


@cache
def programs() -> int:
    """Multiprocessors: each has one program at a time, or a barrier would wait for one that has not begun."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count


def rooms_here() -> int:
    """Rooms of 4 KiB that a program can have; what is left is for the compiler."""
    most = driver.active.utils.get_device_properties(torch.cuda.current_device())["max_shared_mem"]
    return (int(most) - SPARE) // ROOM


def arguments(
    y: Tensor, stack: Stack, rotation: Tensor, start: Tensor, span: tuple[int, int, int], shape: tuple[int, int]
) -> dict[str, Any]:
    """What the kernel is given, by name. span: first layer, the one behind the last, phase. shape: programs, rooms."""
    layer, room = stack.layers[0], stack.room
    of = layer.streams[0]
    groups, capacity, width = layer.keys.shape
    first, last, phase = span
    found = plan(layer, *shape, WARPS)
    if found is None:
        raise ValueError(f"{shape[1]} rooms of shared memory are too few for {shape[0]} programs")
    return {
        "x_ptr": y, "gain_ptr": layer.attention_gain, "weight_ptr": of.numbers, "factor_ptr": of.factors,
        "cache_ptr": layer.keys, "table_ptr": stack.table, "rotation_ptr": rotation, "start_ptr": start,
        "q_ptr": room.q, "means_ptr": room.means, "sums_ptr": room.sums, "inner_ptr": room.inner,
        "counter_ptr": room.counter, "times_ptr": room.counter, "first": first, "last": last,
        "rows": len(y), "capacity": capacity,
        "chunks": room.means.shape[2], "eps": layer.eps, "scale": width**-0.5 * 1.4426950408889634,
        "K": y.shape[1], "F": layer.streams[3].shape[1], "HEADS": layer.heads, "GROUPS": groups, "WIDTH": width,
        "CHUNK": CHUNK, "PROGRAMS": shape[0], "WARPS": WARPS, "BITS": of.bits, "GROUP": of.group,
        "BIAS": layer.bias is not None, "ROOMS": found.turn, "PHASE": phase, "TIMED": False,
    }  # fmt: skip


def _launch(y: Tensor, stack: Stack, rotation: Tensor, start: Tensor, first: int, last: int, phase: int) -> None:
    _start(arguments(y, stack, rotation, start, (first, last, phase), (programs(), rooms_here())))


def _start(given: dict[str, Any]) -> None:
    # Programs that wait for one another must all be there: such a launch fails where they would not.
    together = given["PHASE"] == WHOLE
    kernel[(programs(),)](**given, num_warps=WARPS, enable_fp_fusion=False, launch_cooperative_grid=together)
