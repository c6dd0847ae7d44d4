"""What the validator costs: per block of three tokens, per character, at its start, in memory."""

from __future__ import annotations

import gc
import itertools
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from assistant.bench import corpus
from assistant.bench.corpus import Source
from validators import PythonValidator, TokenValidator


class Times(NamedTuple):
    """Microseconds."""

    median: float
    p99: float
    most: float
    number: int


class Blocks(NamedTuple):
    """One block of three tokens checked, in files of about 5 kB."""

    cold: Times
    """By a validator that has seen nothing but the file's text before the block."""
    warm: Times
    """The same blocks once more by the same validator."""
    bad: Times
    """Spoilt blocks at the same places, by the then warm validator, each seen for the first time."""


def blocks(sources: Sequence[Source], files: int, split: Callable[[str], list[str]]) -> Blocks:
    chosen = [source for source in sources if 4_000 <= len(source.text) <= 6_500][:files]
    chosen = chosen or [source._replace(text=source.text[:5_000]) for source in sources[:files]]
    cold: list[int] = []
    warm: list[int] = []
    bad: list[int] = []
    for source in chosen:
        validator = PythonValidator()
        parts = split(source.text)
        texts = ["".join(parts[at : at + 3]) for at in range(0, len(parts), 3)]
        for durations in (cold, warm):
            state = validator.start("")
            for text in texts:
                begin = time.perf_counter_ns()
                verdict = validator.check(state, text)
                durations.append(time.perf_counter_ns() - begin)
                state = verdict.state
        state = validator.start("")
        for text, other in itertools.pairwise(texts):
            begin = time.perf_counter_ns()
            validator.check(state, other + text)
            bad.append(time.perf_counter_ns() - begin)
            state = validator.check(state, text).state
    return Blocks(_times(cold), _times(warm), _times(bad))


def starts(sources: Sequence[Source], times: int) -> Times:
    """Microseconds of `start` on 20 kB left and 20 kB right of the cursor, by a fresh validator."""
    whole = [source for source in sources if len(source.text) >= 40_000][:times]
    durations = []
    for source in whole or [Source("joined", "\n".join(source.text for source in sources))]:
        line = source.text.find("\n", 20_000) + 1
        left, right = source.text[:line], source.text[line : line + 20_000]
        validator = PythonValidator()
        begin = time.perf_counter_ns()
        validator.start(left, right)
        durations.append(time.perf_counter_ns() - begin)
    return _times(durations)


def by_length(sources: Sequence[Source], lengths: Sequence[int]) -> dict[int, float]:
    """Nanoseconds per character of blocks checked behind a left text of about so many characters. Flat is the goal.

    Every measurement is made on the same 2 kB, which follow files joined to the length asked for.
    """
    text = _joined(sources, max(lengths))
    probe = sources[0].text[:2_000]
    parts = corpus.pieces(probe)
    found = {}
    for length in lengths:
        validator = PythonValidator()
        begin = validator.start(_whole_statements(text, length))
        rounds = []
        for _ in range(5):
            state, clock = begin, time.perf_counter_ns()
            for at in range(0, len(parts), 3):
                state = validator.check(state, "".join(parts[at : at + 3])).state
            rounds.append((time.perf_counter_ns() - clock) / len(probe))
        found[length] = statistics.median(rounds)
    return found


def start_by_length(sources: Sequence[Source], lengths: Sequence[int]) -> dict[int, float]:
    """Nanoseconds per character of `start` on texts of so many characters, by a fresh validator."""
    text = _joined(sources, max(lengths))
    found = {}
    for length in lengths:
        validator = PythonValidator()
        clock = time.perf_counter_ns()
        validator.start(text[:length])
        found[length] = (time.perf_counter_ns() - clock) / length
    return found


def _joined(sources: Sequence[Source], length: int) -> str:
    joined = "\n".join(source.text for source in sources) + "\n"
    return joined * (length // len(joined) + 1)


def _whole_statements(text: str, length: int) -> str:
    """The beginning of `text` up to the last of its top-level statements that ends before `length`."""
    starts = [
        found.start() for found in re.finditer(r"^(?:def |class |import |from |\w+ = )", text[:length], re.MULTILINE)
    ]
    return next((text[:start] for start in reversed(starts[-20:]) if corpus.parses(text[:start])), "")


class Fresh(NamedTuple):
    """A process that has just started."""

    seconds: float
    """From the first import to the first answer about 5 kB."""
    megabytes: float
    """Resident size that this added to the bare interpreter's."""


_FRESH = """
import json, sys, time
def resident():
    import os
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024
text = sys.stdin.read()
before, begin = resident(), time.perf_counter()
from validators import PythonValidator
validator = PythonValidator()
validator.check(validator.start(text), "x = 1")
print(json.dumps([time.perf_counter() - begin, (resident() - before) / 2**20]))
"""


def fresh_process(sources: Sequence[Source], times: int = 3) -> Fresh:
    """Medians over `times` processes."""
    text = _joined(sources, 5_000)[:5_000]
    runs = []
    for _ in range(times):
        command = [sys.executable, "-c", _FRESH]
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        runs.append(json.loads(run.stdout))
    return Fresh(statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs))


def masks(sources: Sequence[Source], tokens: Sequence[bytes | None], places: int) -> Times | None:
    """Microseconds of a mask over the whole vocabulary, warm; None while the token validator has none."""
    text_validator: Any = PythonValidator()
    validator: Any = TokenValidator(text_validator, tokens)
    mask = getattr(validator, "mask", None)
    if mask is None:
        return None
    durations = []
    for source in sources[:places]:
        state = validator.start(source.text[: len(source.text) // 2])
        mask(state)
        begin = time.perf_counter_ns()
        mask(state)
        durations.append(time.perf_counter_ns() - begin)
    return _times(durations)


def _times(nanoseconds: Sequence[int]) -> Times:
    gc.collect()
    ordered = sorted(nanoseconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return Times(statistics.median(ordered) / 1000, p99 / 1000, ordered[-1] / 1000, len(ordered))
