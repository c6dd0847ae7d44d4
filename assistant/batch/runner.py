"""Answers the jobs that have no answer yet, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from assistant.batch.answers import Answer, Failure, completed, failed, line_of
from assistant.batch.journal import Journal
from assistant.batch.keys import Job
from assistant.batch.rows import Task
from assistant.completion import Completion, Request
from assistant.progress import Progress
from assistant.settings import Settings


class Completer(Protocol):
    """What is asked of a session."""

    name: str

    def complete(self, request: Request) -> Completion: ...

    def forget(self) -> None: ...


@dataclass
class Tally:
    """What a run has done, and what there was before it."""

    rows: int = 0
    before: int = 0
    """Rows that an earlier run has answered."""
    failed: int = 0
    """Rows with an error, earlier ones included."""
    tokens: int = 0
    avoided: int = 0
    """Syntax errors avoided: tokens that the model preferred and the validator refused."""
    rows_with_avoided: int = 0
    seconds: float = 0.0

    def add(self, answers: Sequence[Answer], seconds: float) -> None:
        """Count one more line. `seconds` are those since the run began."""
        avoided = sum(answer.avoided for answer in answers)
        self.tokens += sum(answer.tokens for answer in answers)
        self.avoided += avoided
        self.rows_with_avoided += avoided > 0
        self.seconds = seconds

    @property
    def speed(self) -> float:
        """Tokens per second, prompts included."""
        return self.tokens / self.seconds if self.seconds else 0.0


def run(
    jobs: Sequence[Job],
    journal: Journal,
    open_session: Callable[[], Completer],
    settings: Settings,
    models: Collection[str],
    *,
    retry: bool = False,
    each: Callable[[Job], None] = lambda job: None,
) -> Tally:
    """Answer `jobs`, append their lines, and count. The session is opened if there is something to do.

    `retry` does those again that failed. `models` are those that a row may ask for. `each` is called with every
    job that has its line, in order.
    """
    again = journal.failed.copy() if retry else set()
    todo = {job.key for job in jobs if job.key not in journal or job.key in again}
    tally = Tally(rows=len(jobs), before=len(jobs) - len(todo))
    session = open_session() if any(job.key in todo and job.task.gap for job in jobs) else None
    begin = time.monotonic()
    latest: Task | None = None
    with Progress(len(todo), "rows") as progress:
        for job in jobs:
            if job.key in todo:
                if session and job.task is not latest:
                    # What another row left in the cache was computed in other pieces, and sums of floats depend on
                    # those. The samples of one row share their prompt: it is computed alike for each of them.
                    session.forget()
                latest = job.task
                answers = list(_answers(job, session, settings, models))
                line = line_of(job, answers, session.name if session else settings.model, int(time.time()))
                journal.append(line)
                tally.add(answers, time.monotonic() - begin)
                progress.advance(f"{tally.speed:.1f} tokens/s")
            each(job)
    tally.failed = sum(job.key in journal.failed for job in jobs)
    return tally


def _answers(job: Job, session: Completer | None, settings: Settings, models: Collection[str]) -> Iterator[Answer]:
    task = job.task
    problem = task.problem
    if task.model is not None and task.model not in models:
        problem = f"{task.where}: the model {task.model!r} is not the one that answers: {', '.join(sorted(models))}"
    for sample in job.samples:
        if problem or session is None or task.gap is None:
            yield failed(job, sample, Failure("BadRow", problem or ""))
            continue
        seed = job.seed(sample, settings)
        try:
            request = Request(task.gap, **(task.changes | {"seed": seed}))
            yield completed(job, sample, seed, session.complete(request))
        except Exception as error:  # whatever goes wrong with one row must not stop the others
            yield failed(job, sample, Failure(type(error).__name__, " ".join(str(error).split())))
