"""Programs in processes of their own: what they give, and what they are kept from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from assistant import sandbox
from assistant.sandbox import Outcome, run_program


def run(source: str, **changes: Any) -> Outcome:
    return run_program(source, **{"seconds": 20.0, "megabytes": 256, **changes})


def test_output_arguments_and_exit_code() -> None:
    outcome = run("import sys; print(sys.argv); print('größe', file=sys.stderr); sys.exit(7)", arguments=("a b", "-c"))
    assert outcome.stdout == "['program.py', 'a b', '-c']\n"
    assert outcome.stderr == "größe\n"
    assert outcome.exit_code == 7
    assert not outcome.timed_out
    assert outcome.summary.startswith("exit code 7 after ")


def test_a_traceback_names_the_program_s_own_lines() -> None:
    outcome = run("def f():\n    return 1 / 0\nf()\n")
    assert outcome.exit_code == 1
    assert 'program.py", line 2, in f\n    return 1 / 0' in outcome.stderr
    assert "runpy" not in outcome.stderr
    assert "ZeroDivisionError" in outcome.stderr


def test_time_runs_out() -> None:
    outcome = run("print('begun', flush=True)\nwhile True: pass", seconds=0.5)
    assert outcome.timed_out
    assert outcome.exit_code is None
    assert outcome.stdout == "begun\n"
    assert 0.5 <= outcome.seconds < 5
    assert "over" in outcome.summary


def test_memory_runs_out() -> None:
    outcome = run("data = bytearray(300 * 2**20)", megabytes=200)
    assert outcome.exit_code == 1
    assert "MemoryError" in outcome.stderr
    assert run("data = bytearray(100 * 2**20)", megabytes=200).exit_code == 0


def test_a_signal_is_told() -> None:
    outcome = run("import os; os.abort()")
    assert outcome.exit_code == -6
    assert "SIGABRT" in outcome.summary


def test_there_is_no_input() -> None:
    assert "EOFError" in run("input()").stderr


def test_the_folder_is_its_own_and_goes_with_it() -> None:
    source = "import os; open('left', 'w').write('x'); print(os.getcwd(), os.environ['HOME'], open('data.txt').read())"
    outcome = run(source, files={"data.txt": "given"})
    folder, home, data = outcome.stdout.split()
    assert folder == home != os.getcwd()
    assert data == "given"
    assert not Path(folder).exists()


def test_the_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    monkeypatch.setenv("PYTHONSTARTUP", "/nonesuch")
    monkeypatch.setenv("PYTHONPATH", "/nonesuch")
    outcome = run("import os, sys; print(sorted(os.environ), sys.path)")
    assert "SECRET_TOKEN" not in outcome.stdout
    assert "nonesuch" not in outcome.stdout


def test_installed_packages_can_be_imported() -> None:
    assert run("import click; print('ok')").stdout == "ok\n"


BEAT = """\
import sys, time
while True:
    with open(sys.argv[1], "a") as file:
        file.write("x")
    time.sleep(0.01)
"""
"""Lets a file grow for as long as it lives."""


def grows(path: Path, within: float) -> bool:
    before = path.stat().st_size if path.exists() else 0
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size > before:
            return True
        time.sleep(0.01)
    return False


def test_children_end_with_it(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    source = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {BEAT!r}, {str(beats)!r}])\n"
        f"while not os.path.exists({str(beats)!r}): time.sleep(0.01)\n"
    )
    assert run(source).exit_code == 0
    assert beats.exists()
    assert not grows(beats, within=0.3)


def test_much_output_is_cut_and_does_not_block() -> None:
    outcome = run("print('x' * 3_000_000)")
    assert outcome.exit_code == 0
    assert len(outcome.stdout) < sandbox.KEPT + 50
    assert outcome.stdout.endswith("cut here\n")


def test_a_file_cannot_grow_past_the_limit() -> None:
    outcome = run("f = open('big', 'wb')\nfor _ in range(300): f.write(bytes(2**20))\n", megabytes=200)
    assert outcome.exit_code != 0


def test_without_a_network_where_the_system_allows_it() -> None:
    outcome = run("import socket; socket.create_connection(('127.0.0.1', 9), 1)")
    assert outcome.exit_code == 1
    assert outcome.network is not bool(sandbox._unshare())
    if not outcome.network:
        assert "unreachable" in outcome.stderr


def test_it_works_without_the_means_to_take_the_network_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_unshare", lambda: ())
    outcome = run("print(1)")
    assert outcome.network
    assert outcome.stdout == "1\n"


def test_an_interrupt_ends_the_program(tmp_path: Path) -> None:
    """In a process of its own, which gets the signal as from Ctrl-C."""
    beats = tmp_path / "beats"
    source = (
        "from assistant.sandbox import run_program\n"
        "try:\n"
        f"    run_program({BEAT!r}, arguments=({str(beats)!r},), seconds=60, megabytes=200)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        assert grows(beats, within=20)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert out == "interrupted\n"
    assert not grows(beats, within=0.3)


def test_several_at_once() -> None:
    outcomes: dict[int, str] = {}

    def one(number: int) -> None:
        outcomes[number] = run(f"print({number} ** 2)").stdout

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {n: f"{n * n}\n" for n in range(6)}


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"megabytes": -1}])
def test_limits_must_make_sense(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        run("", **limits)
