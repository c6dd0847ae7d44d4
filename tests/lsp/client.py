"""Clients of the servers under test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from assistant.bench.lsp_client import Client, insertion

__all__ = ["PYTHON", "ROOT", "Client", "fake_server", "insertion", "server"]

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, "-X", "utf8")


@contextlib.contextmanager
def server(command: Sequence[str], env: dict[str, str] | None = None, kind: type[Client] = Client) -> Iterator[Client]:
    """A client of a new server process, which is gone afterwards."""
    client = kind(command, env, ROOT)
    try:
        yield client
    finally:
        client.kill()


def fake_server(kind: type[Client] = Client, **env: str) -> contextlib.AbstractContextManager[Client]:
    """A server around the fake session; the other arguments are its environment."""
    return server([*PYTHON, "-m", "tests.lsp.fake"], env, kind)
