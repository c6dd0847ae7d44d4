"""What the validator costs: per block of three tokens, per character, at its start, in memory.

Times are of the thread's processor time, as the anchors' are, less what reading the clock takes: other processes do not
count.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import random
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
                begin = time.thread_time_ns()
                verdict = validator.check(state, text)
                durations.append(time.thread_time_ns() - begin)
                state = verdict.state
        state = validator.start("")
        for text, other in itertools.pairwise(texts):
            begin = time.thread_time_ns()
            validator.check(state, other + text)
            bad.append(time.thread_time_ns() - begin)
            state = validator.check(state, text).state
    return Blocks(times(cold), times(warm), times(bad))


def starts(sources: Sequence[Source], count: int) -> Times:
    """Microseconds of `start` on 20 kB left and 20 kB right of the cursor, by a fresh validator."""
    whole = [source for source in sources if len(source.text) >= 40_000][:count]
    durations = []
    for source in whole or [Source("joined", "\n".join(source.text for source in sources))]:
        line = source.text.find("\n", 20_000) + 1
        left, right = source.text[:line], source.text[line : line + 20_000]
        validator = PythonValidator()
        gc.collect()  # what earlier validators left is not to be cleared away in this one's time
        begin = time.thread_time_ns()
        validator.start(left, right)
        durations.append(time.thread_time_ns() - begin)
    return times(durations)


class Closings(NamedTuple):
    """Gaps in real files closed, each at its beginning and somewhere in its true middle, by one validator."""

    spent: Times
    wrong: tuple[str, ...]
    """Where the file does not parse with the text found."""
    missed: tuple[str, ...]
    """Where none was found; the true middle is one."""


def closings(sources: Sequence[Source], count: int, seed: int) -> Closings:
    """`count` gaps, half of them whole lines."""
    rng, validator = random.Random(seed), PythonValidator()
    spent, wrong, missed = list[int](), list[str](), list[str]()
    for cut in corpus.cuts(sources, count, seed):
        begin = validator.start(cut.left, cut.right)
        for written in ("", cut.middle[: rng.randint(0, len(cut.middle))]):
            state = validator.check(begin, written).state
            clock = time.thread_time_ns()
            closing = validator.closing(state)
            spent.append(time.thread_time_ns() - clock)
            left = cut.left + written
            where = f"{left[-60:]!r} | {closing!r} | {cut.right[:60]!r}"
            if closing is None:
                missed.append(where)
            elif not corpus.parses(left + closing + cut.right):
                wrong.append(where)
    return Closings(times(spent), tuple(wrong), tuple(missed))


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
            state, clock = begin, time.thread_time_ns()
            for at in range(0, len(parts), 3):
                state = validator.check(state, "".join(parts[at : at + 3])).state
            rounds.append((time.thread_time_ns() - clock) / len(probe))
        found[length] = statistics.median(rounds)
    return found


def start_by_length(sources: Sequence[Source], lengths: Sequence[int]) -> dict[int, float]:
    """Nanoseconds per character of `start` on texts of so many characters, by a fresh validator."""
    text = _joined(sources, max(lengths))
    found = {}
    for length in lengths:
        validator = PythonValidator()
        clock = time.thread_time_ns()
        validator.start(text[:length])
        found[length] = (time.thread_time_ns() - clock) / length
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
    """From the first import to the first answer about 5 kB, of the processor's time."""
    passed: float
    """The same on the clock."""
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
before, begin, clock = resident(), time.process_time(), time.perf_counter()
from validators import PythonValidator
validator = PythonValidator()
validator.check(validator.start(text), "x = 1")
print(json.dumps([time.process_time() - begin, time.perf_counter() - clock, (resident() - before) / 2**20]))
"""


def fresh_process(sources: Sequence[Source], times: int = 3) -> Fresh:
    """Medians over `times` processes."""
    text = _joined(sources, 5_000)[:5_000]
    runs = []
    for _ in range(times):
        command = [sys.executable, "-c", _FRESH]
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        runs.append(json.loads(run.stdout))
    return Fresh(*(statistics.median(column) for column in zip(*runs, strict=True)))


class Masks(NamedTuple):
    """Masks at every token of files that are replayed token by token, each made into bytes."""

    cold: Times
    """By a fresh validator, on the first of the files: reading the vocabulary is among it."""
    warm: Times
    """On the last files, by a validator that has made masks for all the others: all their places."""
    first: Times
    """Of those, the places that the validator has never met."""
    again: Times
    """Of those, the others."""
    forced_ids: int
    """Tokens of the last files that were the only ones that could come next."""
    forced_characters: int
    tokens: int
    characters: int


def masks(
    sources: Sequence[Source],
    encode: Callable[[str], list[int]],
    pieces: Sequence[bytes | None],
    before: int,
    then: int,
) -> Masks:
    """Replays `before` files, and then `then` files that count as warm."""
    text_validator = PythonValidator()
    validator = TokenValidator(text_validator, pieces)
    small = [source for source in sources if len(source.text) < 20_000]
    files = (small or list(sources))[: before + then]
    cold, first, again = list[int](), list[int](), list[int]()
    forced_ids = forced_characters = tokens = 0
    met: set[Any] = set()
    for number, source in enumerate(files):
        warm = number >= len(files) - then
        state = validator.start("")
        for token in encode(source.text):
            begin = time.thread_time_ns()
            mask = validator.mask(state)
            spent = time.thread_time_ns() - begin
            if not mask[token >> 3] >> (token & 7) & 1:
                raise AssertionError(f"{source.name}: token {token} is not in the mask before it")
            place = (state.text.place, state.pending)
            if warm:
                (again if place in met else first).append(spent)
                forced = sum(byte.bit_count() for byte in mask) == 1 and not validator.complete(state)
                forced_ids, tokens = forced_ids + forced, tokens + 1
            if number == 0:
                cold.append(spent)
            met.add(place)
            _, state = validator.accept_block(state, [token])
        if warm:
            forced_characters += _forced_characters(text_validator, source.text)
    characters = sum(len(source.text) for source in files[-then:])
    return Masks(
        times(cold), times([*first, *again]), times(first), times(again),
        forced_ids, forced_characters, tokens, characters,
    )  # fmt: skip


def _forced_characters(validator: PythonValidator, text: str) -> int:
    """Characters of a file that something had to begin with."""
    state, at, forced = validator.start(""), 0, 0
    while at < len(text):
        must = validator.forced(state)
        if not text.startswith(must, at):
            raise AssertionError(f"{must!r} is not what follows {text[max(0, at - 40) : at]!r}")
        forced += len(must)
        step = text[at : at + max(1, len(must))]
        state, at = validator.check(state, step).state, at + len(step)
    return forced


@functools.cache
def reading_the_clock() -> float:
    """Nanoseconds that two readings of the thread's clock lie apart when nothing stands between them."""
    return statistics.median(time.thread_time_ns() * -1 + time.thread_time_ns() for _ in range(10_000))


def times(nanoseconds: Sequence[int]) -> Times:
    """Of measured nanoseconds."""
    gc.collect()
    ordered = sorted(max(0.0, each - reading_the_clock()) for each in nanoseconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return Times(statistics.median(ordered) / 1000, p99 / 1000, ordered[-1] / 1000, len(ordered))
