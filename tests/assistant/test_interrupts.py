"""Ctrl-C that waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assistant.interrupts import held_back

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, signal, sys, time
from assistant.interrupts import INTERRUPTED, held_back, installed, tell
leaving = installed()

class Destroyed:
    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGINT):
        kill(me, number)
        for _ in range(99): pass
"""


def test_an_interrupt_comes_when_the_block_is_done() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = False
    with pytest.raises(KeyboardInterrupt), held_back():
        os.kill(os.getpid(), signal.SIGINT)
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) is before


def test_without_one_nothing_comes_and_errors_go_through() -> None:
    with held_back():
        pass
    with pytest.raises(ValueError, match="own"), held_back():
        raise ValueError("own")


def test_other_threads_are_let_through() -> None:
    came: list[str] = []

    def work() -> None:
        with held_back():
            came.append("in")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert came == ["in"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("code", "ended", "told"),
    [
        ("raise KeyboardInterrupt", 130, "viable: interrupted\n"),
        # Caught within a text that is executed: CPython remembers it and would end by the signal.
        ("try: exec('raise KeyboardInterrupt')\nexcept KeyboardInterrupt: pass\nleaving.leave(7)", 7, ""),
        # In a destructor, where nothing can be raised.
        ("Destroyed()\nfor _ in range(500): time.sleep(0.01)\nleaving.leave(7)", 130, "viable: interrupted\n"),
        # When all is done, while threads are waited for and while Python frees what is left.
        ("import atexit; atexit.register(os.kill, os.getpid(), signal.SIGINT); leaving.leave(7)", 7, ""),
        ("kept = Destroyed(); leaving.leave(7)", 7, ""),
        ("try: leaving.leave(7)\nfinally: os.kill(os.getpid(), signal.SIGINT)", 7, ""),
        # While imports are held back: at once, or at the second time.
        ("with held_back(at_once=True): os.kill(os.getpid(), 2)", 130, "viable: interrupted\n"),
        ("with held_back(): [os.kill(os.getpid(), 2) for _ in '12']", 130, "viable: interrupted\n"),
        ("raise ValueError('own')", 1, None),
    ],
)
def test_no_interrupt_is_lost_or_shown_as_a_traceback(code: str, ended: int, told: str | None) -> None:
    command = [sys.executable, "-c", PRELUDE + code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (ended, "")
    assert ran.stderr == told if told is not None else "ValueError: own" in ran.stderr
