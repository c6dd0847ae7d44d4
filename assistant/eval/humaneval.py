"""HumanEval (Chen et al. 2021, "Evaluating Large Language Models Trained on Code"): do the programs pass their tests?

A problem is a function's head and docstring; the model writes the body, which is run with the problem's own tests in a
process of its own, with limits. Answers are kept row by row in a file: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.errors import UsageProblem
from assistant.judge import refusal
from assistant.sandbox import run_program
from assistant.settings import Settings

Mode = Literal["validated", "raw"]

SECONDS = 10.0
MEGABYTES = 1024
"""Limits of one program."""

PASSED = "viable: every assertion held"
"""Printed behind the tests: a program that leaves early has not passed them."""

STOPS = ("\nclass ", "\ndef ", "\n#", "\n@", "\nif ", "\nprint", "\nassert ", "\nfrom ", "\nimport ")
"""Where the text of the raw model is cut: the function is over (section 3.1 of the paper, and others)."""


class Problem(msgspec.Struct, frozen=True):
    """A row of the file."""

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str = ""


@dataclass(frozen=True)
class Row:
    """An answer and what came of it; a line of the output file."""

    task_id: str
    mode: Mode
    sample: int
    run: str
    """What the answer depends on besides: model, settings."""
    completion: str
    passed: bool
    parses: bool
    result: str
    """For people: how the program ended."""
    tokens: int
    passes: int
    seconds: float
    """Time of writing."""


@dataclass(frozen=True)
class Score:
    """What a set of answers is worth. Shares are 0 to 1."""

    mode: Mode
    problems: int
    samples: int
    pass_at_1: float
    """Mean share of the answers to a problem that pass."""
    parses: float
    tokens: int
    tokens_per_pass: float
    tokens_per_second: float


class Session(Protocol):
    """What is asked of a session."""

    @property
    def settings(self) -> Settings: ...

    @property
    def name(self) -> str: ...

    def complete(self, request: Request) -> Completion: ...

    def plain(self, text: str, over: Callable[[str], bool], seed: int | None) -> Completion: ...


def read_problems(path: Path) -> list[Problem]:
    """The problems of a .jsonl or .jsonl.gz file. UsageProblem names the line that is none."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UsageProblem(f"{path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=Problem))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UsageProblem(f"{path}:{number}: no HumanEval problem: {error}") from None
    if not found:
        raise UsageProblem(f"{path}: has no problem")
    return found


def subset(problems: Sequence[Problem], limit: int | None) -> list[Problem]:
    """`limit` of them, evenly spread: the file goes from easy to hard."""
    if limit is None or limit >= len(problems):
        return list(problems)
    return [problems[i * len(problems) // limit] for i in range(limit)]


def evaluate(
    session: Session,
    problems: Sequence[Problem],
    modes: Sequence[Mode],
    samples: int,
    output: Path,
    progress: Callable[[], None] = lambda: None,
) -> list[Score]:
    """Answer and run what `output` does not have yet; a score per mode."""
    run = _fingerprint(session)
    rows = {key: row for key, row in _read(output).items() if key[0] == run}
    scores = []
    for mode in modes:
        for problem in problems:
            for sample in range(samples):
                key = run, mode, problem.task_id, sample
                if key not in rows:
                    rows[key] = _answer(session, problem, mode, sample, run)
                    _append(output, rows[key])
                progress()
        chosen = [rows[run, mode, problem.task_id, sample] for problem in problems for sample in range(samples)]
        scores.append(_score(mode, chosen, samples))
    return scores


def program(problem: Problem, completion: str) -> str:
    """What is run: the answer, the problem's tests, and a last line that only a program says that passed them."""
    return f"{problem.prompt}{completion}\n\n{problem.test}\n\ncheck({problem.entry_point})\nprint({PASSED!r})\n"


def judge(problem: Problem, completion: str) -> tuple[bool, str]:
    """Does the program pass, and how did it end?"""
    outcome = run_program(program(problem, completion), seconds=SECONDS, megabytes=MEGABYTES)
    passed = outcome.exit_code == 0 and outcome.stdout.rstrip().endswith(PASSED)
    last = outcome.stderr.strip().splitlines()[-1:]
    return passed, "passed" if passed else " ".join((outcome.summary, *last))[:200]


def over(text: str) -> bool:
    """Has the raw model gone past the function?"""
    return any(stop in text for stop in STOPS)


def _answer(session: Session, problem: Problem, mode: Mode, sample: int, run: str) -> Row:
    seed = session.settings.seed + sample
    if mode == "raw":
        found = session.plain(problem.prompt, over, seed)
        ends = [at for stop in STOPS if (at := found.text.find(stop)) >= 0]
        text = found.text[: min(ends, default=None)]
    else:
        found = session.complete(Request(Gap(problem.prompt, ""), seed=seed, unit="function"))
        text = found.text
    passed, result = judge(problem, text)
    return Row(
        task_id=problem.task_id,
        mode=mode,
        sample=sample,
        run=run,
        completion=text,
        passed=passed,
        parses=refusal(problem.prompt + text) is None,
        result=result,
        tokens=found.tokens,
        passes=found.passes,
        seconds=round(found.ms_total / 1000, 3),
    )


def _score(mode: Mode, rows: Sequence[Row], samples: int) -> Score:
    def share(values: Iterator[bool]) -> float:
        return round(sum(values) / len(rows), 4)

    tokens = sum(row.tokens for row in rows)
    return Score(
        mode=mode,
        problems=len(rows) // samples,
        samples=samples,
        pass_at_1=share(row.passed for row in rows),
        parses=share(row.parses for row in rows),
        tokens=tokens,
        tokens_per_pass=round(tokens / max(sum(row.passes for row in rows), 1), 3),
        tokens_per_second=round(tokens / max(sum(row.seconds for row in rows), 1e-9), 1),
    )


def _fingerprint(session: Session) -> str:
    said: Mapping[str, object] = {**msgspec.structs.asdict(session.settings), "device": "", "model": session.name}
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=6).hexdigest()


Key = tuple[str, str, str, int]


def _read(path: Path) -> dict[Key, Row]:
    """The rows that are whole; a torn last line is cut off."""
    if not path.exists():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    rows: dict[Key, Row] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = msgspec.json.decode(line, type=Row)
        except msgspec.DecodeError as error:
            raise UsageProblem(f"{path}:{number}: no answer to a HumanEval problem: {error}") from None
        rows[row.run, row.mode, row.task_id, row.sample] = row
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return rows


def _append(path: Path, row: Row) -> None:
    try:
        with path.open("ab") as file:
            file.write(json.dumps(asdict(row)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageProblem(f"{path}: {(error.strerror or str(error)).lower()}") from None


def table(scores: Sequence[Score]) -> str:
    """For people."""
    columns = ("problems", "samples", "pass@1", "parses", "tokens", "tok/pass", "tok/s")
    lines = [f"{'':10}" + "".join(f"{name:>10}" for name in columns)]
    for score in scores:
        cells = (
            f"{score.problems}",
            f"{score.samples}",
            f"{100 * score.pass_at_1:.1f}%",
            f"{100 * score.parses:.1f}%",
            f"{score.tokens}",
            f"{score.tokens_per_pass:.2f}",
            f"{score.tokens_per_second:.1f}",
        )
        lines.append(f"{score.mode:10}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)
