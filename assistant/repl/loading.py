"""Opens sessions behind the prompt: torch and the weights come while the user already types."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from assistant.errors import ViableError
from assistant.settings import Settings

if TYPE_CHECKING:
    from assistant.repl.contracts import Interrupt, Session

PATIENCE = 0.05
"""Seconds between two looks at whether the user has lost it."""


class Loader:
    """Holds the session in use and opens the next one in a thread of its own. The newest wish wins."""

    def __init__(self, opener: Callable[[Settings], Session], changed: Callable[[], None]) -> None:
        self._opener = opener
        self._changed = changed
        self._settled = threading.Event()
        self._settled.set()
        self._lock = threading.Lock()
        self._wish = 0
        self.session: Session | None = None
        """In use; the old one until a new one is there."""
        self.error: ViableError | None = None
        """Why the newest wish failed."""

    @property
    def busy(self) -> bool:
        """Is a session being opened?"""
        return not self._settled.is_set()

    def start(self, settings: Settings) -> None:
        """Begin to open a session."""
        with self._lock:
            self._wish += 1
            self._settled.clear()
            self.error = None
            threading.Thread(target=self._open, args=(settings, self._wish), name="open session", daemon=True).start()

    def wait(self, interrupt: Interrupt, waited: Callable[[int], None] = lambda seconds: None) -> Session | None:
        """The session, once nothing is being opened; None if `interrupt` comes first.

        `waited` is told every second how many there were. Raises the ViableError that kept the newest session from
        being opened, if there is no other.
        """
        begin, told = time.monotonic(), 0
        while not self._settled.wait(PATIENCE):
            if interrupt():
                return None
            if (seconds := int(time.monotonic() - begin)) > told:
                told = seconds
                waited(seconds)
        if not self.session and self.error:
            raise self.error
        return self.session

    def _open(self, settings: Settings, wish: int) -> None:
        session: Session | None = None
        error: ViableError | None = None
        try:
            session = self._opener(settings)
        except ViableError as problem:
            error = problem
        except OSError as problem:
            error = ViableError(f"{problem.filename or settings.model}: {problem.strerror or problem}")
        except Exception as problem:  # whatever it is, it belongs on the user's screen, not into a dying thread
            error = ViableError(f"the model could not be loaded: {type(problem).__name__}: {problem}")
        with self._lock:
            if wish != self._wish:
                return
            self.session = session or self.session
            self.error = error
            self._settled.set()
        self._changed()
