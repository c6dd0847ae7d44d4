"""Sessions for the doors, opened as quickly as it goes.

What opens them brings torch, seconds that nothing should cost that does without. And while torch is imported and a
model is read, nothing is collected: of all that is made none is garbage, and Python would walk through it a dozen
times, half a second in all.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from assistant.interrupts import held_back
from assistant.settings import Settings

if TYPE_CHECKING:
    from assistant.session import Session


def open_session(settings: Settings, *, at_once: bool = False) -> Session:
    """See `assistant.session`. With `at_once` Ctrl-C ends the process while torch is imported."""
    session: Session = _uncollected(lambda: _imported("assistant.session", "open_session", at_once)(settings))
    return session


def open_sessions(settings: Settings, count: int) -> list[Session]:
    """See `assistant.session`."""
    sessions: list[Session] = _uncollected(lambda: _imported("assistant.session", "open_sessions")(settings, count))
    return sessions


def gpu_problem() -> str | None:
    """See `model.gpu.problem`. It brings torch as well."""
    problem: str | None = _uncollected(lambda: _imported("model.gpu", "problem")())
    return problem


def _imported(module: str, name: str, at_once: bool = False) -> Callable[..., Any]:
    with held_back(at_once=at_once):
        found: Callable[..., Any] = getattr(import_module(module), name)
    gc.freeze()  # modules stay
    atexit.register(gc.unfreeze)  # to the end: libraries look then whether something was left
    return found


def _uncollected(make: Callable[[], Any]) -> Any:
    before = gc.isenabled()
    gc.disable()
    try:
        return make()
    finally:
        if before:  # of two at once, the first to be done has the collector back
            gc.enable()
