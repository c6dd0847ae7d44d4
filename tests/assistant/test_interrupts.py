"""Ctrl-C that waits."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from assistant.interrupts import held_back


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
