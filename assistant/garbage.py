"""Garbage collection, kept away from where a great deal is made and nothing thrown away."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_later() -> Iterator[None]:
    """No collection inside the block: importing torch and opening a model would be walked through a dozen times, which
    takes half a second. Twice at once, the collector is back when the first is over."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
