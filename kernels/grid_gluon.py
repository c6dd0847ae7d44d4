"""What programs of one launch say to one another, and to the memory: a barrier across the grid, a clock, a prefetch."""

from __future__ import annotations

from functools import cache

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

# Everything that the threads of this program have written is seen by whoever sees the count. One thread counts; behind
# the last of 2 · PROGRAMS arrivals the count is zero again, ready for the next launch.
ARRIVE = gl.constexpr("""{
.reg .pred other;
.reg .b32 thread;
bar.sync 0;
mov.u32 thread, %tid.x;
setp.ne.u32 other, thread, 0;
@!other red.release.gpu.global.inc.u32 [$1], $2;
mov.u32 $0, 0;
}""")
# One thread looks at the count until it lies in [$2, $3); then all of them go on.
WAIT = gl.constexpr("""{
.reg .pred other, low, high, late;
.reg .b32 thread, count, looks;
mov.u32 thread, %tid.x;
setp.ne.u32 other, thread, 0;
@other bra REACHED;
mov.u32 looks, 0;
LOOK:
add.u32 looks, looks, 1;
setp.gt.u32 late, looks, 20000000;
@late trap;
ld.acquire.gpu.global.u32 count, [$1];
setp.lt.u32 low, count, $2;
setp.ge.or.u32 high, count, $3, low;
@high bra LOOK;
REACHED:
bar.sync 0;
mov.u32 $0, 0;
}""")


@cache
def multiprocessors() -> int:
    """Of the GPU that is used."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count


@gluon.jit
def arrive(counter_ptr, last):
    """`last`: arrivals of a launch, less one."""
    gl.inline_asm_elementwise(ARRIVE, "=r,l,r", [counter_ptr, last], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def wait(counter_ptr, low, high):
    gl.inline_asm_elementwise(WAIT, "=r,l,r,r", [counter_ptr, low, high], dtype=gl.int32, is_pure=False, pack=1)


# A line of a tensor to the second-level cache, by one thread.
PREFETCH = gl.constexpr("""{
.reg .pred other;
.reg .b32 thread;
mov.u32 thread, %tid.x;
setp.ne.u32 other, thread, 0;
@!other cp.async.bulk.prefetch.L2.global [$1], $2;
mov.u32 $0, 0;
}""")


@gluon.jit
def prefetched(at, size: gl.constexpr):
    gl.inline_asm_elementwise(PREFETCH, "=r,l,r", [at, size], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def tick(times_ptr, moment: gl.constexpr, TIMED: gl.constexpr):
    """Nanoseconds of the GPU's clock: at the start, behind what is waited for, and behind what each phase writes."""
    if TIMED:
        program = gl.program_id(0)
        now = gl.inline_asm_elementwise(
            "mov.u64 $0, %globaltimer;", "=l,r", [program], dtype=gl.int64, is_pure=False, pack=1
        )
        gl.store(times_ptr + program * 8 + moment, now)
