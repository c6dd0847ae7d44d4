"""`viable validate` by its door."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.cli.validate import VERSIONS
from assistant.examine import Finding, examine, read_source
from assistant.judge import refusal
from assistant.progress import Progress, duration
from tests.assistant.fake import Shell
from validators import ReferenceValidator

CASES: dict[str, tuple[bytes, str | None]] = {
    "valid": (b"x = 1\n", None),
    "empty": (b"", None),
    "no final newline": (b"def f(): return 1", None),
    "crlf, tabs and a byte order mark": (b"\xef\xbb\xbfif x:\r\n\ty\r\n", None),
    "declared latin-1": (b"# coding: latin-1\nx = '\xe9'\n", None),
    "return at top level": (b"return 1\n", None),
    "invalid": (b"a = 1\nx = = 3\n", "2:5: invalid syntax"),
    "invalid far right, in characters": ("x = 'é😀' = = 3\n".encode(), "1:11: "),
    "after \\r alone": (b"a = 1\rx = = 3\r", "2:5: invalid syntax"),
    "not UTF-8": (b"x\n '\xff'\n", "2:3: not UTF-8: byte 0xff at offset 4"),
    "NUL": (b"a = 1\n\0", "2:1: holds a NUL character, which no Python source may"),
    "an unknown encoding": (b"# coding: morse\n", "1:1: unknown encoding: morse"),
    "open bracket": (b"x = (1,\n", "2:1: unexpected end of file, could be closed by ')'"),
    "open string": (b"x = '''abc", "1:11: unexpected end of file, could be closed by \"'''\""),
    "no body": (b"if x:\n", "2:1: unexpected end of file, could be closed by '"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "f.py"


@pytest.mark.parametrize("case", CASES)
def test_the_first_place_is_told(viable: Shell, file: Path, case: str) -> None:
    data, told = CASES[case]
    file.write_bytes(data)
    ran = viable("validate", file)
    assert ran.err == ""
    if told is None:
        assert (ran.code, ran.out) == (0, "")
    else:
        assert ran.code == 1
        assert ran.out.startswith(f"{file}:{told}")
        assert ran.out.count("\n") == 1
    piped = viable("validate", stdin=data)
    assert (piped.code, piped.out) == (ran.code, ran.out.replace(str(file), "<stdin>"))


def test_many_files_are_summed_up(viable: Shell, tmp_path: Path) -> None:
    for number, (data, _) in enumerate(CASES.values()):
        (tmp_path / f"{number:02}.py").write_bytes(data)
    for hidden in (".git", "env", "__pycache__", "deep"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "b.py").write_text("x =")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "text.txt").write_text("x =")
    ran = viable("validate", tmp_path)
    assert ran.code == 1
    assert ran.err == "17 files: 6 valid, 3 invalid, 5 unfinished, 3 unreadable\n"
    names = [line.removeprefix(str(tmp_path)).split(":")[0] for line in ran.out.splitlines()]
    assert len(names) == 11
    assert not any("env" in name or ".git" in name for name in names)
    assert viable("validate", f"{tmp_path}/0[01].py").err == "2 files: 2 valid\n"


def test_json_has_a_line_for_every_file(viable: Shell, tmp_path: Path) -> None:
    for name, data in (("a", b"x = 1"), ("b", b"x = (\n"), ("c", b"x = = 3")):
        (tmp_path / f"{name}.py").write_bytes(data)
    ran = viable("validate", "--json", tmp_path)
    a, b, c = (json.loads(line) for line in ran.out.splitlines())
    assert a == {"file": f"{tmp_path}/a.py", "valid": True} | dict.fromkeys(Finding._fields)
    assert (b["kind"], b["line"], b["column"]) == ("unfinished", 2, 1)
    assert ast.parse("x = (\n" + b["closing"])
    assert (c["kind"], c["line"], c["column"], c["reason"]) == ("invalid", 1, 5, "invalid syntax")


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(viable: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = = 3")
    ran = viable("validate", tmp_path / "no.py", tmp_path / "bad.py")
    assert ran.code == 2
    assert ran.out == f"{tmp_path}/bad.py:1:5: invalid syntax\n"
    assert ran.err.splitlines()[0] == f"viable: {tmp_path}/no.py: no such file or directory"
    ran = viable("validate", tmp_path / "*.txt")
    assert (ran.code, ran.error) == (2, f"{tmp_path}/*.txt: no file matches")


def test_names_and_reasons_cannot_move_the_cursor(viable: Shell, tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\n.py"
    path.write_text("x = = 3")
    out = viable("validate", path).out
    assert "\x1b" not in out
    assert out.count("\n") == 1
    assert "a\\x1b[2J\\n.py:1:5" in out


def test_a_terminal_without_files_is_misuse(viable: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with open(follower) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        ran = viable("validate")
    os.close(leader)
    assert ran.code == 2
    assert ran.error.startswith("name files or folders, or pipe a file in")


def test_an_unknown_version_is_misuse(viable: Shell, file: Path) -> None:
    for version in ("2.7", "3.7", "4", "three"):
        ran = viable("validate", "--version", version, file)
        assert ran.code == 2
        assert version in ran.error


def test_each_version_has_its_own_grammar(viable: Shell, file: Path) -> None:
    cases = {
        "match x:\n    case 1:\n        pass\n": "3.10",
        "try:\n    pass\nexcept* E:\n    pass\n": "3.11",
        "type X = int\n": "3.12",
    }
    for text, first in cases.items():
        file.write_text(text)
        for version in VERSIONS:
            old = int(version[2:]) < int(first[2:])
            assert viable("validate", "--version", version, file).code == old, f"{version}: {text}"


@given(st.text(st.sampled_from("ab1 \n()[]:=.,'\"\\#\r\té"), max_size=20))
def test_a_text_has_a_finding_exactly_if_python_refuses_it(text: str) -> None:
    finding = examine(text, ReferenceValidator())
    assert (finding is None) == (refusal(text) is None)
    if finding is None:
        return
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert 1 <= finding.line <= len(lines)
    assert 1 <= finding.column <= len(lines[finding.line - 1]) + 1
    if finding.kind == "unfinished" and finding.closing is not None:
        assert refusal(text + finding.closing) is None


def test_source_is_read_as_it_declares() -> None:
    assert read_source("# -*- coding: cp1252 -*-\n'€'".encode("cp1252"), "f") == "# -*- coding: cp1252 -*-\n'€'"
    assert read_source(b"\xef\xbb\xbfx", "f") == "x", "utf-8-sig takes the byte order mark"


# --- progress -----------------------------------------------------------------------------------------------


def test_progress_says_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 4.0, 6.0, 7.0, 12.0])
    with Progress(10, "rows", every=5, clock=lambda: next(times)) as progress:
        for _ in range(5):
            progress.advance("3.0 tokens/s")
    assert capsys.readouterr().err == (
        "viable: 3 of 10 rows, 3.0 tokens/s, 14 s left\nviable: 5 of 10 rows, 3.0 tokens/s, 12 s left\n"
    )


def test_durations_are_short() -> None:
    assert [duration(s) for s in (0.4, 59.6, 61, 3599.7, 7500)] == [
        "0 s",
        "1 min 0 s",
        "1 min 1 s",
        "1 h 0 min",
        "2 h 5 min",
    ]


def test_the_level_says_whether_compile_is_asked_too(viable: Shell, file: Path) -> None:
    file.write_bytes(b"def f(a):\n    return a\n\nreturn 1\n")
    assert viable("validate", file).code == 0
    strict = viable("validate", "--level", "compile", file)
    assert (strict.code, strict.out) == (1, f"{file}:4:7: 'return' outside function\n")
    other = viable("validate", "--level", "compile", "--version", "3.9", stdin=b"break\n")
    assert (other.code, other.out) == (1, "<stdin>:1:6: 'break' outside loop\n")
    unseen = viable(
        "validate", "--level", "compile", stdin=b"def f():\n    nonlocal_ = 1\n    def g():\n        nonlocal x\n"
    )
    assert unseen.code == 1 and "no binding for nonlocal 'x' found" in unseen.out, "the compiler has the last word"
