"""What the REPL asks of a session. `assistant.session` has the real one; it is named here for types alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from assistant.completion import Request
    from assistant.session import Chunk

Interrupt = Callable[[], Literal["cancelled", "time"] | None]
"""Asked before every pass of the model."""


class Session(Protocol):
    """Continues programs."""

    name: str
    device: str
    capacity: int
    """Tokens of prompt and answer together."""

    def stream(self, request: Request, interrupt: Interrupt) -> Iterator[Chunk]:
        """A chunk a pass; the last one holds the completion."""
        ...
