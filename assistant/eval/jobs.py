"""Requests answered one by one, or by several processes, each with a session of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial

from assistant import session
from assistant.completion import Completion, Request
from assistant.settings import Settings

Answers = Callable[[Iterable[Request]], Iterator[Completion]]
"""Completions in the order of the requests, as they are ready."""


@contextmanager
def answering(settings: Settings, jobs: int) -> Iterator[Answers]:
    """By so many processes; one is this one. Where an exception leaves the block, nobody finishes what was begun."""
    if jobs == 1:
        yield partial(map, session.open_session(settings).complete)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))

    def answers(requests: Iterable[Request]) -> Iterator[Completion]:
        with _unheard():  # the processes begin with the first requests
            return pool.map(partial(_complete, settings, threads), requests)

    try:
        yield answers
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _unheard() -> Iterator[None]:
    """Ctrl-C is the first process's to answer, which hears it afterwards: those that begin inside never hear it, nor
    break off what they import."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _complete(settings: Settings, threads: int, request: Request) -> Completion:
    return _session(settings, threads).complete(request)


@cache
def _session(settings: Settings, threads: int) -> session.Session:
    """Opened by the first request and not before: what fails there is told like any failure of a request."""
    import torch

    torch.set_num_threads(threads)
    return session.open_session(settings)
