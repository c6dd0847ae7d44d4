"""Loading without leaving holes in memory.

glibc maps large blocks by themselves and gives them back when they are freed, but takes the size of every such block
for a sign that blocks up to it (32 MB at most) had better come from the heap from then on: matrices that were there for
a moment then leave holes among those that stay. On other systems nothing here does anything.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them, from malloc.h
_SMALL = 1 << 20  # bytes of a block that is mapped by itself while a model is loaded
_LARGE = 32 << 20  # what the threshold grows to by itself: passes do not ask the system for every tensor


@contextmanager
def lean() -> Iterator[None]:
    """What is freed inside the block is given back at its end at the latest."""
    mallopt, trim = _glibc()
    mallopt(_MMAP_THRESHOLD, _SMALL)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE)  # as glibc itself has it beside the other
        trim(0)


def _glibc() -> tuple[Callable[[int, int], object], Callable[[int], object]]:
    """mallopt and malloc_trim, or what does nothing."""
    try:
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        return libc.mallopt, libc.malloc_trim  # type: ignore[union-attr]
    except AttributeError:
        return lambda parameter, value: None, lambda pad: None
