"""Downloads over HTTP, from a server that misbehaves."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import UsageProblem
from assistant.store import web
from assistant.store.report import Meter, Silent
from assistant.store.sources import SourceFailed
from tests.assistant.store_hub import CONTENT, Answer, WebServer, web_server

SIZE = len(CONTENT)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setattr(web, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web_server() as server:
        yield server


class Recorder:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.positions: list[int] = []
        self.starts: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def at(self, position: int) -> None:
        self.positions.append(position)

    @contextlib.contextmanager
    def meter(self, what: str, total: int, start: int = 0) -> Iterator[Meter]:
        assert (what, total) == ("small", SIZE)
        self.starts.append(start)
        yield self


def fetch(server: WebServer, part: Path, recorder: Recorder | None = None) -> None:
    web.Url(f"{server.url}/small.gguf").fetch(part, SIZE, recorder or Recorder(), "small")


def test_a_whole_file_comes_in_one_request(server: WebServer, tmp_path: Path) -> None:
    recorder = Recorder()
    fetch(server, tmp_path / "part", recorder)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.asked == [("/small.gguf", 0)]
    assert recorder.starts == [0]
    assert recorder.positions == sorted(recorder.positions)
    assert recorder.positions[-1] == SIZE


@pytest.mark.parametrize("have", [1, 20_000, 333_333, SIZE - 1])
def test_only_what_is_missing_is_fetched(server: WebServer, tmp_path: Path, have: int) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:have])
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == [("/small.gguf", have)]
    assert server.sent == SIZE - have


def test_a_complete_part_asks_nothing(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)
    fetch(server, tmp_path / "part")
    assert server.asked == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_broken_connection_goes_on_where_it_broke(server: WebServer, tmp_path: Path, sized: bool) -> None:
    cuts = [300_000, 1, 450_001]
    server.plan = [Answer(stop_after=cut, sized=sized) for cut in cuts]
    fetch(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert [start for _, start in server.asked] == [0, 300_000, 300_001, 750_002]
    assert server.sent == SIZE


def test_any_number_of_breaks_is_survived_while_something_arrives(server: WebServer, tmp_path: Path) -> None:
    server.usual = Answer(stop_after=50_000)
    fetch(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert len(server.asked) == 21
    assert server.sent == SIZE


def test_a_server_without_ranges_begins_anew(server: WebServer, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:777])
    server.usual = Answer(ranges=False)
    recorder = Recorder()
    fetch(server, part, recorder)
    assert part.read_bytes() == CONTENT
    assert recorder.starts == [777]
    assert recorder.positions[0] == 0


def test_breaks_that_bring_nothing_new_end(server: WebServer, tmp_path: Path) -> None:
    server.usual = Answer(ranges=False, stop_after=100_000)
    with pytest.raises(SourceFailed, match=r"^connection closed at byte 100000 of 1000003 \(5 tries\)$"):
        fetch(server, tmp_path / "part")
    assert len(server.asked) == 1 + web.TRIES - 1
    assert (tmp_path / "part").read_bytes() == CONTENT[:100_000]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    have=st.integers(0, SIZE),
    plan=st.lists(
        st.one_of(
            st.builds(Answer, stop_after=st.integers(1, SIZE), ranges=st.booleans(), sized=st.booleans()),
            st.builds(Answer, status=st.sampled_from([500, 502, 503, 429])),
        ),
        max_size=4,
    ),
)
def test_whatever_happens_on_the_way_the_part_is_a_true_beginning(
    server: WebServer, tmp_path_factory: pytest.TempPathFactory, have: int, plan: list[Answer]
) -> None:
    part = tmp_path_factory.mktemp("any") / "part"
    part.write_bytes(CONTENT[:have])
    server.plan, server.asked = list(plan), []
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert len(server.asked) <= len(plan) + 1
    server.plan = []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(server: WebServer, tmp_path: Path, status: int) -> None:
    server.usual = Answer(status=status)
    with pytest.raises(SourceFailed, match=rf"^HTTP {status} \w"):
        fetch(server, tmp_path / "part")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_trouble_is_tried_again(server: WebServer, tmp_path: Path, status: int) -> None:
    server.plan = [Answer(status=status)] * (web.TRIES - 1)
    fetch(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert len(server.asked) == web.TRIES


def test_a_lasting_trouble_ends(server: WebServer, tmp_path: Path) -> None:
    server.usual = Answer(status=503)
    with pytest.raises(SourceFailed, match=r"^HTTP 503 Service Unavailable \(5 tries\)$"):
        fetch(server, tmp_path / "part")
    assert len(server.asked) == web.TRIES


@pytest.mark.parametrize("have", [0, 5])
@pytest.mark.parametrize("other", [CONTENT + b"!", CONTENT[:-1], b"<html>please log in</html>"])
def test_a_file_of_another_size_is_refused_at_once(server: WebServer, tmp_path: Path, have: int, other: bytes) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:have])
    server.usual = Answer(content=other)
    with pytest.raises(SourceFailed, match=rf"^the file there has {len(other)} bytes, not {SIZE}$"):
        fetch(server, part)
    assert len(server.asked) == 1
    assert part.read_bytes() == CONTENT[:have]


def test_an_endless_answer_is_cut(server: WebServer, tmp_path: Path) -> None:
    server.usual = Answer(content=CONTENT * 2, sized=False)
    with pytest.raises(SourceFailed, match=rf"^sends more than the {SIZE} bytes expected$"):
        fetch(server, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size <= SIZE


@pytest.mark.parametrize("said", ["bytes 6-9/10", "bytes */1000003", "lines 5-6/7", "bytes 5-"])
def test_another_range_than_asked_for_is_refused(server: WebServer, tmp_path: Path, said: str) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:5])
    server.usual = Answer(content_range=said)
    with pytest.raises(SourceFailed, match="another range"):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:5]


def test_a_range_of_unknown_total_is_taken(server: WebServer, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:5])
    server.usual = Answer(content_range=f"bytes 5-{SIZE - 1}/*")
    fetch(server, part)
    assert part.read_bytes() == CONTENT


def test_a_range_beyond_the_file_there_is_refused(server: WebServer, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:600])
    server.content = CONTENT[:500]
    with pytest.raises(SourceFailed, match=r"^HTTP 416"):
        fetch(server, part)
    assert part.read_bytes() == CONTENT[:600]


def test_a_redirect_keeps_the_range(server: WebServer, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:1234])
    server.plan = [Answer(location="/elsewhere")]
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == [("/small.gguf", 1234), ("/elsewhere", 1234)]


def test_a_redirect_out_of_the_web_is_refused(server: WebServer, tmp_path: Path) -> None:
    server.usual = Answer(location=(tmp_path / "secret").as_uri())
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(SourceFailed, match=r"^HTTP 302"):
        fetch(server, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_server_that_never_answers_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def wait(seconds: float) -> None:
        raise AssertionError("waited before another try")

    monkeypatch.setattr("time.sleep", wait)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        with pytest.raises(SourceFailed, match=r"^Connection refused$"):
            web.Url(url).fetch(tmp_path / "part", 1, Silent(), "small")
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("url", ["https://a..b/x", "http://127.0.0.1:x/y", "http://127.0.0.1:9/a b"])
def test_an_address_that_cannot_be_one_is_a_failure_like_others(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceFailed):
        web.Url(url).fetch(tmp_path / "part", 1, Silent(), "small")


def test_silence_counts_as_a_break(server: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "TIMEOUT", 0.1)
    server.plan = [Answer(pause=5.0)]
    fetch(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert [start for _, start in server.asked] == [0, 20_000]


@pytest.mark.parametrize("ending", ["", "/"])
def test_the_hub_is_asked_for_a_file_at_a_revision(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url + ending)
    hub = web.Hub("Some/Model-GGUF", "0123abc", "a file.gguf")
    hub.fetch(tmp_path / "part", SIZE, Silent(), "small")
    assert server.asked == [("/Some/Model-GGUF/resolve/0123abc/a%20file.gguf", 0)]
    assert hub.label == server.url.removeprefix("http://")


def test_the_hub_without_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert web.Hub("a/b", "c", "d").url == "https://huggingface.co/a/b/resolve/c/d"


def test_a_mirror_must_be_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "mirror.example")
    with pytest.raises(UsageProblem, match=r"^HF_ENDPOINT=mirror\.example: not an http"):
        _ = web.Hub("a/b", "c", "d").label
