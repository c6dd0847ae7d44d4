"""What the language server's tests share: a raw client, and files for it to open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lsp.client import Client, fake_server


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of one fake server, initialized; shared by a module's tests."""
    with fake_server() as client:
        client.initialize()
        yield client
