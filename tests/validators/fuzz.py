"""Random texts against the interpreters: `python -m tests.validators.fuzz --seed 1 --seconds 60 --versions 3.8,3.12`.

With `--seconds 3600` and no versions it is the hour that goes before a release; `python -m tests --slow` runs it for
25 seconds a version, always with the same seed. Case number K of a seed is the same text on every machine with the same
standard library; a failure prints the command that replays it alone, and a shorter text that fails in the same way.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator

from assistant.bench.snippets import Version
from tests.validators.corpus import cpython_snippets
from tests.validators.fuzz_checks import Failure, Subject
from tests.validators.fuzz_texts import Texts
from tests.validators.oracle import RUNNING, missing, oracles

SHRINKING_SECONDS = 5.0


def case(subject: Subject, seed: int, number: int, gaps: bool = True) -> list[Failure]:
    """What case `number` of `seed` finds. Every fourth is about a text with a gap; `gaps` says whether it is tried."""
    rng = random.Random(f"{seed}/{number}")
    texts = Texts(rng, subject.version, cpython_snippets(subject.oracle))
    text = _text(texts, number, subject)
    try:
        if number % 4 != 3:
            return list(subject.text(text, rng))
        if gaps and subject.oracle.parse(text) is None:
            return list(subject.gap(text, rng, texts.middle))
    except Exception:  # whatever it is, it is a failure, and the search goes on
        return [Failure("raised", text, "", "no exception", traceback.format_exc()[-1500:])]
    return []


def case_text(subject: Subject, seed: int, number: int) -> str:
    """The text of case `number` of `seed`."""
    texts = Texts(random.Random(f"{seed}/{number}"), subject.version, cpython_snippets(subject.oracle))
    return _text(texts, number, subject)


def _text(texts: Texts, number: int, subject: Subject) -> str:
    kind = number % 12
    if kind in (0, 3, 7):
        return texts.program()
    if kind in (1, 5):
        return texts.spoilt(texts.program())
    if kind == 2:
        return texts.noise()
    if kind == 6:
        return texts.spoilt(texts.noise())
    return texts.spoilt(texts.soup(subject.validator)) if kind == 9 else texts.soup(subject.validator)


def run(
    seed: int, seconds: float, versions: list[Version], first: int = 0, count: int | None = None, gaps: bool = True
) -> Iterator[tuple[Subject, int, Failure]]:
    """Failures, each with its subject and case, until the time or the cases are used up."""
    subjects = [Subject(version, oracles()[version]) for version in versions]
    end = time.monotonic() + seconds
    number = first
    while time.monotonic() < end and (count is None or number < first + count):
        for subject in subjects:
            for failure in case(subject, seed, number, gaps):
                yield subject, number, failure
        number += 1
    for subject in subjects:
        subject.counts["cases"] = number - first
        COUNTS[subject.version] = subject.counts


COUNTS: dict[Version, dict[str, int]] = {}
"""Of the last run: what was checked, by version."""


def shrink(text: str, fails: Callable[[str], bool], seconds: float = SHRINKING_SECONDS) -> str:
    """A shorter text that still fails: lines are taken out first, then characters."""
    end = time.monotonic() + seconds
    for split in (lambda text: text.splitlines(keepends=True), list):
        parts = split(text)
        size = max(1, len(parts) // 2)
        while size and time.monotonic() < end:
            at = 0
            while at < len(parts) and time.monotonic() < end:
                fewer = parts[:at] + parts[at + size :]
                if fails("".join(fewer)):
                    parts = fewer
                else:
                    at += size
            size //= 2
        text = "".join(parts)
    return text


def shrunk(subject: Subject, failure: Failure) -> Failure:
    """The same kind of failure with a shorter text. Gaps and states are left as they are."""
    if failure.suffix or failure.check.startswith(("problems", "true", "other", "accepted", "raised")):
        return failure
    kept = failure

    def fails(text: str) -> bool:
        nonlocal kept
        for found in subject.text(text, random.Random(0)):
            if found.check == failure.check and found.expected[:4] == failure.expected[:4]:
                kept = found
                return True
        return False

    shrink(failure.text, fails)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.validators.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--case", type=int, help="only this case")
    parser.add_argument("--versions", default="", help="such as 3.8,3.12; all that this machine has by default")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many")
    parser.add_argument("--no-gaps", action="store_true", help="left texts only")
    options = parser.parse_args()
    versions = [_version(word) for word in options.versions.split(",") if word] or list(oracles())
    if absent := [version for version in versions if version not in oracles()]:
        parser.error(f"no interpreter for {', '.join(map(_dotted, absent))} was found")
    print("versions:", *map(_dotted, versions), "- not found:", *(map(_dotted, missing()) if missing() else ["none"]))
    first, count = (0, None) if options.case is None else (options.case, 1)
    failures = 0
    seen: Counter[str] = Counter()
    for subject, number, failure in run(options.seed, options.seconds, versions, first, count, not options.no_gaps):
        failures += 1
        small = shrunk(subject, failure)
        seen[small.check] += 1
        version = _dotted(subject.version)
        print(f"\n{version} {small.check}: {small.text!r}" + (f" | {small.suffix!r}" if small.suffix else ""))
        print(f"  expected {small.expected}; got {small.got}")
        print(
            f"  python -m tests.validators.fuzz --seed {options.seed} --case {number} --versions {version}", flush=True
        )
        if failures >= options.failures:
            break
    for judged, counts in COUNTS.items():
        print(_dotted(judged), ", ".join(f"{name}: {value}" for name, value in counts.items()))
    print(f"{failures} failures {dict(seen) if seen else ''}")
    return int(failures > 0)


def _version(word: str) -> Version:
    major, minor = word.split(".")
    return int(major), int(minor)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    assert RUNNING in oracles()
    sys.exit(main())
