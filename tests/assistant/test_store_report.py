"""How progress is told."""

from __future__ import annotations

import io
import itertools

import pytest

from assistant.store.report import Console, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (491_400_064, "491.4 MB"),
        (2_000_000_000, "2.0 GB"),
        (3_500_000_000_000, "3.5 TB"),
    ],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size_text(count) == text


def test_without_a_terminal_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(100.0, 1.0)  # a second passes between two looks at the clock
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Console(stream, every=5.0).meter("it", 40_000, start=10_000) as meter:
        for position in range(10_000, 40_001, 2_000):
            meter.at(position)
    assert stream.getvalue().splitlines() == [
        "it: 18.0 kB of 40.0 kB (45 %), 1.6 kB/s",
        "it: 28.0 kB of 40.0 kB (70 %), 2.0 kB/s",
        "it: 38.0 kB of 40.0 kB (95 %), 2.0 kB/s",
    ]


def test_quick_work_says_nothing() -> None:
    stream = io.StringIO()
    with Console(stream).meter("it", 10) as meter:
        meter.at(10)
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_that_may_go_back() -> None:
    stream = Terminal()
    with Console(stream).meter("it", 2_000_000, start=1_000_000) as meter:
        meter.at(1_500_000)
        meter.at(0)
        meter.at(2_000_000)
    last = stream.getvalue().split("\r")[-1]
    assert "it: 100%" in last
    assert "2.00M/2.00M" in last


def test_an_error_inside_leaves_the_bar_and_passes() -> None:
    stream = Terminal()
    with pytest.raises(KeyError), Console(stream).meter("it", 10):
        raise KeyError
    assert stream.getvalue().endswith("\n")


def test_notes_go_to_the_stream_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    Console().note("hello")
    assert capsys.readouterr().err == "hello\n"
