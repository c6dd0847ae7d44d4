"""The comparison of drafted with plain text: on a tiny model it finds nothing, and finds what is there."""

from __future__ import annotations

import pytest

from assistant.eval import exact
from assistant.eval.fim import File
from assistant.session import open_session
from assistant.settings import Settings
from tests.tiny import write_tiny_gguf

BODY = """def total_{i}(values):
    total = {i}
    for value in values:
        total += value
    return total


"""
FILE = File("here", "exact.py", "".join(BODY.format(i=i) for i in range(6)))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = write_tiny_gguf(tmp_path_factory.mktemp("model"), kind="Q8_0")
    return Settings(model=str(path), device="cpu", draft="lookup", context=1024)


def test_drafted_text_is_plain_text(settings: Settings) -> None:
    asked = exact.prompts([FILE], 9, seed=3)
    assert len(asked) == 4 and not asked[-1].gap.suffix
    pairs = list(exact.compare(open_session(settings), asked, max_tokens=12))
    assert [pair.difference for pair in pairs] == [None] * 4
    assert sum(pair.passes for pair in pairs) <= sum(len(pair.plain) for pair in pairs)


def test_other_text_is_found(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_gguf(tmp_path_factory.mktemp("other"), kind="Q8_0", seed=5)
    session, other = open_session(settings), open_session(settings.replaced(model=str(path)))
    monkeypatch.setattr(session, "undrafted", lambda: other)
    pairs = exact.compare(session, exact.prompts([FILE], 4, seed=3), max_tokens=12)
    assert all(pair.difference is not None for pair in pairs)


def test_what_counts_as_different() -> None:
    def difference(plain: str, drafted: str, texts: tuple[str, str]) -> int | None:
        prompt = exact.prompts([FILE], 1, 0)[0]
        return exact.Pair(prompt, tuple(map(ord, plain)), tuple(map(ord, drafted)), texts, 1).difference

    assert difference("abc", "abc", ("abc", "abc")) is None
    assert difference("abc", "abcd", ("abc", "abc")) is None
    assert difference("abc", "abcd", ("abc", "abcd")) == 3
    assert difference("abc", "ab", ("ab", "ab")) == 2
    assert difference("abc", "axc", ("a", "a")) == 1
