"""Bringing a model into the cache, and finding it again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from assistant.errors import UsageProblem, ViableError
from assistant.store import DEFAULT, ModelRef, resolve
from assistant.store.catalogue import Model
from assistant.store.pull import pull
from assistant.store.report import Meter, Reporter
from assistant.store.slot import Slot, State
from assistant.store.sources import SourceFailed, length, scratch
from tests.assistant.store_hub import CONTENT, model, sha256, web_server, write_own_models

SIZE = len(CONTENT)


@dataclass(frozen=True)
class Fake:
    """A source that does as told, and remembers the lengths of the parts it was given."""

    label: str = "fake"
    content: bytes = CONTENT
    stop: int | None = None
    """Give up after this many bytes of the file."""
    error: BaseException = field(default_factory=lambda: SourceFailed("gave up"))
    extra: int = 0
    given: list[int] = field(default_factory=list)

    origin = "nowhere"

    def room(self) -> int:
        return self.extra

    def fetch(self, part: Path, size: int, report: Reporter, what: str) -> None:
        self.given.append(length(part))
        with part.open("ab") as file:
            file.write(self.content[file.tell() : self.stop])
        if self.stop is not None:
            raise self.error


class Notes:
    """A reporter that remembers, and counts what was hashed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.hashed = 0

    def note(self, text: str) -> None:
        self.lines.append(text)

    def at(self, position: int) -> None:
        pass

    @contextlib.contextmanager
    def meter(self, what: str, total: int, start: int = 0) -> Iterator[Meter]:
        self.hashed += total
        yield self


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIABLE_HOME", str(tmp_path))
    monkeypatch.delenv("VIABLE_OFFLINE", raising=False)
    return tmp_path


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_pull_leaves_the_model_its_stamp_and_its_notices(home: Path) -> None:
    source = Fake()
    path = pull(model(source), report=Notes())
    assert path == home / "models" / "small" / "small.gguf"
    assert path.read_bytes() == CONTENT
    assert names_in(path.parent) == {"small.gguf", "small.gguf.ok", "LICENSE.txt", "ABOUT.txt"}
    assert "Apache License" in (path.parent / "LICENSE.txt").read_text()
    about = (path.parent / "ABOUT.txt").read_text()
    assert all(word in about for word in ("Somebody.", "Apache-2.0", sha256(CONTENT), "nowhere"))


def test_a_licence_that_is_not_known_is_only_named() -> None:
    path = pull(model(Fake(), licence="../../secret"), report=Notes())
    assert names_in(path.parent) == {"small.gguf", "small.gguf.ok", "ABOUT.txt"}
    assert "Licence: ../../secret\n" in (path.parent / "ABOUT.txt").read_text()


def test_the_second_pull_does_no_work() -> None:
    source, notes = Fake(), Notes()
    pull(model(source), report=notes)
    assert (source.given, notes.hashed) == ([0], SIZE)
    pull(model(source), report=notes)
    assert (source.given, notes.hashed) == ([0], SIZE)


def test_the_next_source_goes_on_where_the_first_one_failed() -> None:
    first, second, third = Fake("first", stop=300_000), Fake("second", stop=300_007), Fake("third")
    notes = Notes()
    path = pull(model(first, second, third), report=notes)
    assert path.read_bytes() == CONTENT
    assert (first.given, second.given, third.given) == ([0], [300_000], [300_007])
    assert notes.lines == ["first: gave up; going on with second", "second: gave up; going on with third"]


def test_when_all_sources_fail_each_is_named_and_the_part_stays() -> None:
    sources = Fake("first", stop=10), Fake("second", stop=20)
    with pytest.raises(ViableError, match=r"^cannot fetch small: first: gave up; second: gave up$") as caught:
        pull(model(*sources), report=Notes())
    assert caught.value.exit_code == 1
    slot = Slot(model(*sources))
    assert slot.state() is State.PARTIAL
    assert length(slot.part) == 20


def test_a_wrong_file_is_deleted_and_named() -> None:
    wrong = bytes(SIZE)
    with pytest.raises(ViableError) as caught:
        pull(model(Fake(content=wrong)), report=Notes())
    assert f"small.gguf arrived with the sha256 {sha256(wrong)}, not {sha256(CONTENT)}; deleted" in str(caught.value)
    assert Slot(model()).state() is State.ABSENT
    assert names_in(Slot(model()).folder) == set()


def test_after_a_wrong_file_the_next_source_begins_at_nothing() -> None:
    wrong, right = Fake("wrong", content=bytes(SIZE)), Fake("right")
    assert pull(model(wrong, right), report=Notes()).read_bytes() == CONTENT
    assert (wrong.given, right.given) == ([0], [0])


def test_a_wrong_beginning_gets_one_clean_start() -> None:
    source, notes = Fake(), Notes()
    entry = model(source)
    slot = Slot(entry)
    slot.folder.mkdir(parents=True)
    slot.part.write_bytes(b"wrong")
    assert pull(entry, report=notes).read_bytes() == CONTENT
    assert source.given == [5, 0]
    assert [line.endswith("deleted; starting anew") for line in notes.lines] == [True]


def test_an_interrupt_keeps_the_part_and_says_so() -> None:
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        pull(model(Fake(stop=250_000, error=KeyboardInterrupt())), report=notes)
    assert notes.lines == ["250.0 kB of 1.0 MB are kept; `viable models pull small` goes on from there"]
    source = Fake()
    assert pull(model(source), report=notes).read_bytes() == CONTENT
    assert source.given == [250_000]


def test_an_interrupt_before_the_first_byte_keeps_nothing() -> None:
    notes = Notes()
    with pytest.raises(KeyboardInterrupt):
        pull(model(Fake(stop=0, error=KeyboardInterrupt())), report=notes)
    assert notes.lines == ["nothing had arrived yet"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_on_the_way_is_one_line(number: int) -> None:
    entry = model(Fake(stop=99, error=OSError(number, os.strerror(number))))
    with pytest.raises(ViableError, match=r"^disk full in .*small; 99 B of 1\.0 MB are kept"):
        pull(entry, report=Notes())
    assert not Slot(entry).file.exists()
    assert length(Slot(entry).part) == 99


def test_a_full_disk_at_the_very_end_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = model(Fake())
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ViableError, match="disk full"):
        pull(entry, report=Notes())
    assert not Slot(entry).file.exists()


def test_other_troubles_of_the_disk_are_not_called_full() -> None:
    with pytest.raises(PermissionError):
        pull(model(Fake(stop=9, error=PermissionError(errno.EACCES, "no"))), report=Notes())


@pytest.mark.parametrize(("have", "extra", "enough"), [(0, 0, True), (0, 1, False), (7, 7, True), (7, 8, False)])
def test_the_room_is_looked_at_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, have: int, extra: int, enough: bool
) -> None:
    source = Fake(extra=extra)
    slot = Slot(model(source))
    slot.folder.mkdir(parents=True)
    slot.part.write_bytes(CONTENT[:have])
    free = SIZE + (1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    if enough:
        assert pull(model(source), report=Notes()).read_bytes() == CONTENT
    else:
        with pytest.raises(ViableError, match=r"^not enough room in .*: 2\.0 MB needed, 2\.0 MB free; make room"):
            pull(model(source), report=Notes())
        assert source.given == []


@pytest.mark.parametrize("have", [0, 300])
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_fetches_nothing(monkeypatch: pytest.MonkeyPatch, have: int, by: str) -> None:
    source = Fake()
    slot = Slot(model(source))
    slot.folder.mkdir(parents=True)
    slot.part.write_bytes(CONTENT[:have])
    if by == "environment":
        monkeypatch.setenv("VIABLE_OFFLINE", "1")
    with pytest.raises(ViableError, match="fetching is off"):
        pull(model(source), offline=by == "argument", report=Notes())
    assert source.given == []
    assert length(slot.part) == have


def test_offline_takes_what_is_there() -> None:
    pull(model(Fake()), report=Notes())
    source = Fake()
    assert pull(model(source), offline=True, report=Notes()).read_bytes() == CONTENT
    assert source.given == []


def put(slot: Slot, content: bytes) -> None:
    slot.folder.mkdir(parents=True, exist_ok=True)
    slot.file.write_bytes(content)


def test_a_file_put_there_by_hand_is_hashed_once() -> None:
    source, notes = Fake(), Notes()
    slot = Slot(model(source))
    put(slot, CONTENT)
    assert slot.state() is State.UNVERIFIED
    for _ in range(3):
        assert pull(model(source), offline=True, report=notes) == slot.file
    assert slot.state() is State.READY
    assert (source.given, notes.hashed) == ([], SIZE)


@pytest.mark.parametrize(
    "content", [CONTENT[:-1], CONTENT + b"!", CONTENT[:-1] + b"!"], ids=["short", "long", "changed"]
)
def test_a_wrong_file_is_moved_aside_and_fetched(content: bytes) -> None:
    source, notes = Fake(), Notes()
    slot = Slot(model(source))
    put(slot, content)
    assert pull(model(source), report=notes).read_bytes() == CONTENT
    assert source.given == [0]
    assert "moved to small.gguf.corrupt" in notes.lines[0]
    assert "small.gguf.corrupt" not in names_in(slot.folder)  # of no use once the right one is there


def test_a_wrong_file_offline_is_an_error_and_moved_aside() -> None:
    slot = Slot(model(Fake()))
    put(slot, bytes(SIZE))
    with pytest.raises(ViableError, match=r"small is damaged and fetching is off; it was moved to .*corrupt$"):
        pull(slot.model, offline=True, report=Notes())
    assert slot.state() is State.ABSENT


def test_a_change_after_the_stamp_is_noticed() -> None:
    source = Fake()
    path = pull(model(source), report=Notes())
    path.write_bytes(CONTENT[:-1] + b"!")
    os.utime(path, ns=(1, 1))
    assert Slot(model(source)).state() is State.UNVERIFIED
    assert pull(model(source), report=Notes()).read_bytes() == CONTENT
    assert source.given == [0, 0]


@pytest.mark.parametrize("stamp", ["", "{}", "[1]", "null", "\x00", '{"size": 1}'])
def test_a_stamp_that_makes_no_sense_is_none(stamp: str) -> None:
    path = pull(model(Fake()), report=Notes())
    (path.parent / "small.gguf.ok").write_text(stamp)
    assert Slot(model(Fake())).state() is State.UNVERIFIED


def test_the_stamp_is_for_one_sha256() -> None:
    path = pull(model(Fake()), report=Notes())
    assert json.loads((path.parent / "small.gguf.ok").read_text())["sha256"] == sha256(CONTENT)
    other = model(Fake(), content=bytes(SIZE))
    assert Slot(other).state() is State.UNVERIFIED


def test_leftovers_of_a_source_go_when_another_one_delivers() -> None:
    entry = model(Fake())
    slot = Slot(entry)
    (scratch(slot.part) / "1").mkdir(parents=True)
    (scratch(slot.part) / "1" / "x.whl").write_bytes(b"wheel")
    pull(entry, report=Notes())
    assert "small.gguf.scratch" not in names_in(slot.folder)


# resolve


def test_a_name_is_fetched_and_then_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web_server() as web:
        write_own_models(home, web.url)
        with pytest.raises(ViableError, match=r"^small is not here yet; `viable models pull small` fetches it$"):
            resolve("small", pull=False)
        with pytest.raises(ViableError, match="fetching is off"):
            resolve("small", offline=True)
        assert web.asked == []
        expected = ModelRef(home / "models" / "small" / "small.gguf", "small", sha256(CONTENT))
        assert resolve("small", report=Notes()) == expected
        assert resolve("small", offline=True) == resolve("small", pull=False) == expected
        assert web.asked == [("/small.gguf", 0)]


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_path_is_taken_as_it_is(tmp_path: Path, as_path: Callable[[Path], str | Path]) -> None:
    (tmp_path / "my.model.gguf").write_bytes(b"GGUF")
    (tmp_path / "folder").mkdir()
    assert resolve(as_path(tmp_path / "my.model.gguf")) == ModelRef(tmp_path / "my.model.gguf", "my.model", None)
    assert resolve(as_path(tmp_path / "folder")) == ModelRef(tmp_path / "folder", "folder", None)


def test_paths_may_be_relative_or_in_the_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "plain").mkdir()
    assert resolve("plain") == ModelRef(Path("plain"), "plain", None)
    assert resolve(".") == ModelRef(Path(), tmp_path.name, None)
    assert resolve("~/plain") == ModelRef(tmp_path / "plain", "plain", None)


def test_a_name_goes_before_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).mkdir()
    with pytest.raises(ViableError, match="not here yet"):
        resolve(DEFAULT, pull=False)
    assert resolve(f"./{DEFAULT}", pull=False).path == Path(DEFAULT)


@pytest.mark.parametrize("text", ["/nowhere/at/all", "a/b", "./x", "~/nothing-here", "missing.gguf"])
def test_a_path_that_is_not_there_is_misuse(text: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        resolve(text)
    assert str(caught.value) == f"no such model file or folder: {text}"


@pytest.mark.parametrize(("text", "hint"), [("qwen", f"did you mean {DEFAULT}?"), ("", "viable models list")])
def test_an_unknown_name_is_misuse(text: str, hint: str) -> None:
    with pytest.raises(UsageProblem, match=f"unknown model '{text}'; ") as caught:
        resolve(text)
    assert hint in str(caught.value)


def test_models_are_data(home: Path) -> None:
    """Nothing in the store asks for a model by name."""
    entry: Model = model(Fake(), name="any-name")
    assert pull(entry, report=Notes()) == home / "models" / "any-name" / "any-name.gguf"
