"""`viable complete` by its door, with a session that needs no model."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.changes import replace_file, unified
from assistant.completion import Completion, Request
from assistant.errors import UsageProblem, ViableError
from tests.assistant.fake import FakeSession, Shell

SOURCE = "def add(a, b):\n    return <CURSOR>\n\nprint(add(1, 2))\n"


@pytest.fixture
def file(tmp_path: Path, session: FakeSession) -> Path:
    session.answer = lambda request: "a + b"
    path = tmp_path / "add.py"
    path.write_text(SOURCE)
    return path


def folder_of(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


def test_it_prints_the_text_alone(viable: Shell, file: Path, session: FakeSession) -> None:
    ran = viable("complete", file)
    assert (ran.code, ran.out, ran.err) == (0, "a + b", "")
    gap = session.requests[0].gap
    assert (gap.left, gap.right) == ("def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n")
    assert file.read_text() == SOURCE


def test_a_place_may_be_given_instead_of_a_mark(viable: Shell, file: Path, session: FakeSession) -> None:
    file.write_bytes("é = 1\r\n\tx😀y\r\n".encode())
    assert viable("complete", file, "--at", "2:4").code == 0
    assert session.requests[0].gap.left == "é = 1\r\n\tx😀"
    assert viable("complete", file).code == 0
    assert session.requests[1].gap.right == "", "without place and mark it is the end of the file"


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("9:1", "line 9 is outside the file, which has 5 lines"),
        ("1:99", "column 99 is outside line 1, which has 14 characters"),
        ("0:1", "line 0 is outside"),
        ("1:0", "column 0 is outside"),
        ("12", "--at takes LINE:COL, two numbers from 1, not '12'"),
        ("a:b", "--at takes LINE:COL"),
        ("-1:2", "--at takes LINE:COL"),
        ("1:99999999999999999999", "--at takes LINE:COL"),
        ("", "--at takes LINE:COL"),
    ],
)
def test_places_that_are_none_are_misuse(viable: Shell, file: Path, session: FakeSession, at: str, told: str) -> None:
    ran = viable("complete", file, "--at", at)
    assert ran.code == 2
    assert ran.error.startswith(f"{file}: {told}")
    assert session.opened == 0, "a model was loaded for nothing"


@pytest.mark.parametrize(
    ("data", "code", "told"),
    [
        (None, 2, "no such file or directory"),
        (b"x = \xff\n", 1, ":1:5: not UTF-8: byte 0xff at offset 4"),
        (b"x = 1\n\0", 1, ":2:1: holds a NUL character, which no Python source may"),
        (b"<CURSOR><CURSOR>", 2, "the text has 2 <CURSOR> marks; one is needed"),
    ],
)
def test_what_cannot_be_completed_is_told_in_one_line(
    viable: Shell, file: Path, session: FakeSession, data: bytes | None, code: int, told: str
) -> None:
    file.unlink() if data is None else file.write_bytes(data)
    for option in ([], ["--in-place"], ["--diff"], ["--json"]):
        ran = viable("complete", file, *option)
        assert (ran.code, ran.out) == (code, "")
        assert ran.error.startswith(str(file))
        assert told in ran.error
    assert session.opened == 0
    assert data is None or file.read_bytes() == data


def test_a_folder_is_no_file(viable: Shell, file: Path) -> None:
    ran = viable("complete", file.parent)
    assert ran.code == 2
    assert ran.error == f"{file.parent}: is a directory, not a file"


def test_an_empty_file_is_the_beginning_of_one(viable: Shell, file: Path, session: FakeSession) -> None:
    file.write_bytes(b"")
    for arguments in ([], ["--at", "1:1"]):
        assert viable("complete", file, *arguments).out == "a + b"
        assert (session.requests[-1].gap.left, session.requests[-1].gap.right) == ("", "")
    assert viable("complete", file, "--in-place").code == 0
    assert file.read_text() == "a + b"


def test_standard_input_is_a_file_called_minus(viable: Shell, session: FakeSession) -> None:
    assert viable("complete", "-", stdin=SOURCE.encode()).out == "pass\n"
    ran = viable("complete", "-", "--diff", stdin=b"x\r\ny")
    assert (
        ran.out == "--- a/<stdin>\n+++ b/<stdin>\n@@ -1,2 +1,2 @@\n x\r\n-y\n\\ No newline at end of file\n+ypass\r\n"
    )
    assert viable("complete", "-", stdin=b"\xff").error.startswith("<stdin>:1:1: not UTF-8")
    ran = viable("complete", "-", "--in-place", stdin=b"")
    assert (ran.code, ran.error) == (2, "--in-place needs a file, not standard input")


@pytest.mark.parametrize("both", [["--diff", "--in-place"], ["--json", "--diff"], ["--json", "--in-place"]])
def test_one_way_of_showing_at_a_time(viable: Shell, file: Path, both: list[str]) -> None:
    ran = viable("complete", file, *both)
    assert (ran.code, ran.error) == (2, "--diff, --in-place and --json exclude each other")
    assert file.read_text() == SOURCE


def test_the_json_has_every_field(viable: Shell, file: Path) -> None:
    ran = viable("complete", file, "--json")
    fields = json.loads(ran.out)
    assert set(fields) == set(Completion.__struct_fields__)
    assert (fields["text"], fields["valid"], fields["problems"]) == ("a + b", True, [])


def test_flags_reach_the_session(viable: Shell, file: Path, session: FakeSession) -> None:
    flags = "--device cpu --dtype int8 --max-tokens 7 --max-ms 8 --temperature 0.5 --top-p 0.9 --seed 3"
    viable("complete", file, *flags.split(), "--model", "viable-small", "--block", 4, "--context", 99, "--offline")
    s = session.settings
    assert (s.model, s.device, s.dtype, s.max_tokens, s.max_ms) == ("viable-small", "cpu", "int8", 7, 8)
    assert (s.temperature, s.top_p, s.seed, s.block, s.context, s.offline) == (0.5, 0.9, 3, 4, 99, True)
    (file.parent / "viable.toml").write_text("max_tokens = 11\ntries = 5\n")
    viable("complete", file)
    assert session.settings.max_tokens == 11, "the settings beside the file count"
    assert session.settings.tries == 5
    viable("complete", file, "--tries", 2)
    assert session.settings.tries == 2


@pytest.mark.parametrize(
    ("number", "told"),
    [("0", "at least 1, not 0"), ("65", "at most 64, not 65"), ("x", "'x' is not"), ("1.5", "'1.5'")],
)
def test_a_number_of_tries_that_makes_no_sense_is_a_line(viable: Shell, file: Path, number: str, told: str) -> None:
    ran = viable("complete", file, "--tries", number)
    assert (ran.code, ran.out) == (2, "")
    assert "tries" in ran.error and told in ran.error
    assert file.read_text() == SOURCE


def test_counts_go_to_stderr(viable: Shell, file: Path) -> None:
    ran = viable("complete", file, "--stats")
    assert ran.out == "a + b"
    assert ran.error.startswith("5 tokens in 2 passes (2 drafted, 1 accepted, 1 fallbacks, 2 syntax errors avoided)")


@pytest.mark.parametrize("option", [[], ["--diff"], ["--in-place"]])
def test_where_nothing_valid_was_found_nothing_is_written(
    viable: Shell, file: Path, session: FakeSession, option: list[str]
) -> None:
    session.answer = lambda request: ""
    ran = viable("complete", file, *option)
    assert (ran.code, ran.out) == (1, "")
    assert ran.error == f"{file}:2:12: no completion: nothing that the model wrote parses in its place"
    assert file.read_text() == SOURCE
    assert folder_of(file) == {"add.py"}


def test_json_is_printed_even_where_there_is_no_text(viable: Shell, file: Path, session: FakeSession) -> None:
    session.answer = lambda request: ""
    ran = viable("complete", file, "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["reason"] == "nothing that the model wrote parses in its place"


@pytest.mark.parametrize(
    ("text", "place"),
    [("x = = 1\ny = <CURSOR>\n", "1:5"), ("def f():\n\tx = <CURSOR>\n= = 3\n", "3:1")],
)
def test_a_broken_file_is_completed_with_a_warning_that_says_where(
    viable: Shell, file: Path, text: str, place: str
) -> None:
    file.write_text(text)
    ran = viable("complete", file)
    assert (ran.code, ran.out) == (0, "a + b")
    assert ran.error.startswith(f"{file}:{place}: warning: ")
    problem = json.loads(viable("complete", file, "--json").out)["problems"][0]
    assert f"{problem['line']}:{problem['column']}" == place


def test_a_closed_output_is_said(viable: Shell, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    for option in ([], ["--json"], ["--diff"]):
        ran = viable("complete", file, *option)
        assert (ran.code, ran.error) == (1, "standard output is closed: there is nowhere to print to")
    assert viable("complete", file, "--in-place").code == 0


# --- in place and as a patch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_rest_of_the_file_is_kept_byte_for_byte(
    viable: Shell, file: Path, session: FakeSession, end: str, mark: str
) -> None:
    session.answer = lambda request: "1\n\ty = 'é'"
    before = f"{mark}if True:{end}\tx = <CURSOR>{end}{end}\f{end}z = '\u2028\x85'{end}  # \t end"
    file.write_bytes(before.encode())
    assert viable("complete", file, "--in-place").code == 0
    assert file.read_bytes() == before.replace("<CURSOR>", f"1{end}\ty = 'é'").encode()


def test_permissions_and_links_are_kept(viable: Shell, file: Path) -> None:
    os.chmod(file, 0o751)
    link = file.parent / "link.py"
    link.symlink_to(file.name)
    assert viable("complete", link, "--in-place").code == 0
    assert link.is_symlink()
    assert os.readlink(link) == file.name
    assert file.read_text() == SOURCE.replace("<CURSOR>", "a + b")
    assert stat.S_IMODE(file.stat().st_mode) == 0o751
    assert folder_of(file) == {"add.py", "link.py"}


def test_a_file_that_was_changed_meanwhile_is_left(viable: Shell, file: Path, session: FakeSession) -> None:
    def meanwhile(request: Request) -> str:
        file.write_text("changed")
        return "a + b"

    session.answer = meanwhile
    ran = viable("complete", file, "--in-place")
    assert (ran.code, ran.error) == (1, f"{file}: not written: it was changed meanwhile")
    assert file.read_text() == "changed"


def test_ctrl_c_leaves_the_file_as_it_was(viable: Shell, file: Path, session: FakeSession) -> None:
    def interrupted(request: Request) -> str:
        raise KeyboardInterrupt

    session.answer = interrupted
    ran = viable("complete", file, "--in-place")
    assert (ran.code, ran.out, ran.err) == (130, "", "viable: interrupted\n")
    assert file.read_text() == SOURCE
    assert folder_of(file) == {"add.py"}


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_full_disk_leaves_the_file_as_it_was(
    viable: Shell, file: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"assistant.changes.os.{step}", full)
    ran = viable("complete", file, "--in-place")
    monkeypatch.undo()
    assert (ran.code, ran.error) == (1, f"{file}: not written: no space left on device")
    assert file.read_text() == SOURCE
    assert folder_of(file) == {"add.py"}


def test_a_read_only_file_is_left(viable: Shell, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.changes.os.access", lambda path, mode: False)  # root may write anything
    ran = viable("complete", file, "--in-place")
    assert (ran.code, ran.error) == (1, f"{file}: not written: it is read-only")
    assert file.read_text() == SOURCE


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageProblem, match="no regular file"):
        replace_file(pipe, "", "x")
    with pytest.raises(ViableError, match="not written: no such file"):
        replace_file(tmp_path / "gone", "", "x")


lines = st.text(st.sampled_from("ab\n\r\f\u2028 "), max_size=20)


@given(lines, lines)
def test_a_patch_turns_the_one_text_into_the_other(before: str, after: str) -> None:
    assert patched(before, unified("a b.py", before, after)) == after


def patched(text: str, patch: str) -> str:
    """What `patch` makes of a text, by its rules: a line ends at "\\n" alone."""
    lines = text.split("\n")
    old = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    new: list[str] = []
    at = 0
    body = patch.split("\n")[2:-1] if patch else []
    entries: list[tuple[str, str]] = []
    for line in body:
        if line.startswith("\\"):
            entries[-1] = entries[-1][0], entries[-1][1].removesuffix("\n")
        else:
            entries.append((line[0], line[1:] + "\n"))
    for kind, line in entries:
        if kind == "@":
            begin, _, count = line.split("-", 1)[1].split()[0].partition(",")
            start = int(begin) - (count != "0")
            new += old[at:start]
            at = start
        elif kind == "+":
            new.append(line)
        else:
            assert old[at] == line, "the patch does not fit its own file"
            new += [line] if kind == " " else []
            at += 1
    return "".join(new + old[at:])


def test_the_patch_fits_its_own_file(viable: Shell, file: Path, session: FakeSession) -> None:
    session.answer = lambda request: "1\n\ty = 2"
    before = "if True:\r\n\tx = <CURSOR>\r\n\f\r\nz = 1"
    file.write_bytes(before.encode())
    ran = viable("complete", file, "--diff")
    assert ran.out.startswith(f"--- a{file}\n+++ b{file}\n")
    assert patched(before, ran.out) == before.replace("<CURSOR>", "1\r\n\ty = 2")
    assert file.read_bytes() == before.encode()


def test_what_imported_names_are_is_there_to_be_asked(viable: Shell, file: Path, session: FakeSession) -> None:
    (file.parent / "shop.py").write_text("def count(goods): ...\n")
    file.write_text("from shop import count\n<CURSOR>\n")
    assert viable("complete", file, "--context-files", "200").code == 0
    [excerpt] = session.requests[0].beside().excerpts
    assert (excerpt.path, excerpt.parts) == ("shop.py", ("def count(goods): ...",))
