"""Runs a Python program in a process of its own, with limits. It contains accidents, it is no jail.

What is limited: wall-clock and processor time, address space, the size of a file, the number of open files and of
processes, and how much output is kept. The program has no standard input, an empty environment but for a handful of
variables, and an empty folder as its working folder and home, which is removed afterwards. It leads a process group of
its own that is killed whole when it ends. Where the system lets an ordinary user make a network namespace, it has no
network. It may read and write what the user may; run nothing here that was written to do harm.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

OPEN_FILES = 64
PROCESSES = 64
"""Limited only together with the network, where the program's own processes are counted and not all of the user's."""
KEPT = 1_000_000
"""Bytes kept of each output stream; the rest is read and dropped."""
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
HELD_OPEN = 1.0
"""Seconds that an output stream may outlive the program."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    exit_code: int | None
    """Its own; minus the signal's number if a signal ended it; None if its time ran out."""
    stdout: str
    stderr: str
    timed_out: bool
    seconds: float
    """Wall-clock time that it took."""
    network: bool
    """Whether it could have used the network."""

    @property
    def summary(self) -> str:
        """One line for people."""
        took = f"{self.seconds:.1f} s"
        if self.timed_out:
            return f"stopped: its {took} are over"
        if self.exit_code is not None and self.exit_code < 0:
            return f"ended by {signal.Signals(-self.exit_code).name} after {took}"
        return f"exit code {self.exit_code} after {took}"


def run_program(
    source: str,
    *,
    seconds: float,
    megabytes: int,
    arguments: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    name: str = "program.py",
) -> Outcome:
    """Run `source` with this interpreter for at most `seconds`, in `megabytes` of address space.

    `files` are put into its folder beforehand, name to text; `name` is what tracebacks call the program. An interrupt
    (Ctrl-C) ends the program and is raised again. Raises ValueError for limits that are not positive and OSError where
    no process can be started.
    """
    if seconds <= 0 or megabytes <= 0:
        raise ValueError(f"limits must be positive, not {seconds} s and {megabytes} MB")
    with tempfile.TemporaryDirectory(prefix="viable-run-", ignore_cleanup_errors=True) as folder:
        for path, text in {**(files or {}), name: source}.items():
            Path(folder, path).write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
        unshared = _unshare()
        command = [
            *unshared,
            sys.executable,
            "-I",
            "-S",
            "-c",
            _LIMITED,
            *_limits(seconds, megabytes, bool(unshared)),
            name,
        ]
        begin = time.monotonic()
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            collectors = [_Collector(stream) for stream in (process.stdout, process.stderr) if stream]
            timed_out = not _ended(process, seconds)
        finally:
            _kill_group(process)
        stdout, stderr = (collector.text() for collector in collectors)
        took = time.monotonic() - begin
    code = None if timed_out else process.returncode
    return Outcome(code, stdout, stderr, timed_out, took, network=not unshared)


_LIMITED = """\
import os, sys
cpu, size, files, processes = map(int, sys.argv[1:5])
try:
    import resource
except ImportError:
    limits = ()
else:
    limits = (("CORE", 0), ("CPU", cpu), ("AS", size), ("FSIZE", size), ("NOFILE", files), ("NPROC", processes))
for name, value in limits:
    kind = getattr(resource, "RLIMIT_" + name, None)
    if kind is not None and value >= 0:
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError) as error:
            print("not limited:", name, error, file=sys.stderr)
os.execv(sys.executable, [sys.executable, "-X", "utf8", "-B", *sys.argv[5:]])
"""
"""Sets the limits and turns into the program. Not done between fork and exec, where a process with threads may hang."""


def _limits(seconds: float, megabytes: int, private: bool) -> list[str]:
    """The arguments of `_LIMITED`; -1 is no limit."""
    cpu = math.ceil(seconds) * (os.cpu_count() or 1) + 1
    return [str(limit) for limit in (cpu, megabytes * 2**20, OPEN_FILES, PROCESSES if private else -1)]


def _environment(folder: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **single, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"}


@functools.cache
def _unshare() -> tuple[str, ...]:
    """What to put before a command so that it has no network; empty where that is not possible."""
    if not (tool := shutil.which("unshare")):
        return ()
    for mapping in ("--map-current-user", "--map-root-user"):
        command = (tool, mapping, "--net", "--")
        trial = subprocess.run([*command, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if trial.returncode == 0:
            return command
    return ()


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the program and all that it started and that is still in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


class _Collector:
    """Reads a stream to its end in a thread and keeps its beginning."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, name="collect output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What was kept. A process that left the group may hold the stream open; it is not waited for."""
        self._thread.join(HELD_OPEN)
        text = bytes(self._data[:KEPT]).decode("utf-8", "replace")
        return text + "\n… cut here\n" if len(self._data) > KEPT else text

    def _read(self) -> None:
        with self._stream:
            while piece := os.read(self._stream.fileno(), 65536):
                self._data += piece[: KEPT + 1 - len(self._data)]
