"""How soon the REPL can be typed into: from starting the process to the prompt, on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Sequence

from assistant.errors import ViableError

PROMPT = "›".encode()
WAIT = 60.0
"""Seconds until there must be a prompt."""


def seconds_to_prompt(command: Sequence[str]) -> float:
    """Start a REPL, wait for its prompt, and end it. Raises ViableError where none comes, with what came instead."""
    terminal, inner = pty.openpty()
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env=os.environ | {"TERM": "xterm"},
        start_new_session=True,
    )
    os.close(inner)
    try:
        return _until_prompt(terminal, begin)
    finally:
        process.send_signal(signal.SIGKILL)  # the model is being loaded behind the prompt
        process.wait()
        os.close(terminal)


def _until_prompt(terminal: int, begin: float) -> float:
    seen = b""
    while time.perf_counter() - begin < WAIT:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # the process has ended
            break
        if PROMPT in seen:
            return time.perf_counter() - begin
    raise ViableError(f"the REPL has shown no prompt: {seen.decode('utf-8', 'replace').strip()!r}")
