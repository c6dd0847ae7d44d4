"""Ctrl-C: at a moment that can bear it, and never as a traceback.

Little is imported here: what comes before `installed` is not guarded by it.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import BinaryIO, NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells count it."""
SOON = 0.001
"""Seconds after which an interrupt that was swallowed comes again."""


class Leaving:
    """How this process ends when an interrupt comes where nobody catches it."""

    def __init__(self) -> None:
        self.code: int | None = None
        """The exit code, once the command is over: an interrupt then finds nothing to stop."""

    def leave(self, code: int) -> NoReturn:
        """The command is over."""
        self.code = code
        # An interrupt within a text that was executed, as `dataclass` does it, makes CPython end by the signal after
        # all, although it was caught; unless another one is executed.
        exec("")
        sys.exit(code)

    def unhandled(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """In place of `sys.excepthook`. Python would show where it was and end the process by the signal."""
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        end(INTERRUPTED if self.code is None else self.code)

    def swallowed(self, what: sys.UnraisableHookArgs) -> None:
        """In place of `sys.unraisablehook`: an interrupt within a destructor, which cannot raise it, comes again."""
        if not issubclass(what.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(what)
        elif self.code is None:
            _thread.start_new_thread(_again, ())  # here it would be swallowed as well


def installed() -> Leaving:
    """Guard this process. Ctrl-C goes on to be an exception; where nobody catches it, it is one line."""
    leaving = Leaving()
    sys.excepthook = leaving.unhandled
    sys.unraisablehook = leaving.swallowed
    # The first to be registered is the last to be run: then Python gives signals back their own ways, and takes a while
    # to free what the command has used.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    return leaving


def end(code: int) -> NoReturn:
    """End the process there and then."""
    with suppress(Exception):
        sys.stdout.flush()
    if code == INTERRUPTED:
        tell()
    os._exit(code)


def tell() -> None:
    """One line: a terminal shows "^C" in the line before."""
    with suppress(Exception):
        print("\n" * sys.stderr.isatty() + "viable: interrupted", file=sys.stderr, flush=True)


@contextmanager
def held_back(*, at_once: bool = False) -> Iterator[None]:
    """Let Ctrl-C wait until the block is done, and raise KeyboardInterrupt then; the second one ends the process.

    For imports: some libraries swallow what is raised while they load, and are broken afterwards. With `at_once` the
    first one ends the process, for where nothing is there to be tidied up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came or at_once:
            end(INTERRUPTED)
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def read_all(stream: BinaryIO) -> bytes:
    """All of a stream that may keep its reader waiting. Within one `read` of all of it, an interrupt that comes between
    two pieces is noticed when the stream ends, and no sooner."""
    data = bytearray()
    for line in stream:
        data += line
    return bytes(data)


def _again() -> None:
    time.sleep(SOON)
    _thread.interrupt_main()
