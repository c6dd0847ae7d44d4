"""Fixtures for tests of the command line."""

from __future__ import annotations

import pytest

from tests.assistant.fake import FakeSession, Shell


@pytest.fixture
def viable(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Shell:
    """`viable("complete", path)` runs the command in this process."""
    return Shell(monkeypatch, capfdbinary)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """What the commands get for a session."""
    fake = FakeSession()
    monkeypatch.setattr("assistant.session.open_session", fake.open)
    monkeypatch.setattr("assistant.session.open_sessions", fake.open_several)
    return fake
