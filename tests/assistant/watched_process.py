"""`viable` that says how far it is: `python -m tests.assistant.watched_process FOLDER complete …`.

A file `opening` comes into the folder when a session is being opened, a file `writing` with its first token.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import assistant.session as sessions
from assistant.__main__ import main
from assistant.settings import Settings


class Watched(sessions.Session):
    """A session that leaves marks in a folder."""

    folder = Path()

    def stream(self, *arguments: Any, **options: Any) -> Iterator[sessions.Chunk]:
        for chunk in super().stream(*arguments, **options):
            (self.folder / "writing").touch()
            yield chunk


def opening(settings: Settings) -> sessions.Session:
    """In place of `open_session`."""
    (Watched.folder / "opening").touch()
    return opened(settings)


if __name__ == "__main__":
    Watched.folder = Path(sys.argv.pop(1))
    opened = sessions.open_session
    vars(sessions).update(open_session=opening, Session=Watched)
    main()
