"""Answers the jobs that have no answer yet, several at once where that is quicker."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
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

    def turns(self, request: Request) -> Generator[None, None, Completion]:
        """Fill a gap; yields where other sessions had better go on first."""
        ...

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
    open_sessions: Callable[[], Sequence[Completer]],
    settings: Settings,
    models: Collection[str],
    *,
    retry: bool = False,
    each: Callable[[Job], None] = lambda job: None,
) -> Tally:
    """Answer `jobs`, append their lines as they are done, and count. As many are answered at once as there are
    sessions, which are opened if there is something to do.

    `retry` does those again that failed. `models` are those that a row may ask for. `each` is called with every
    job that has its line: with those of an earlier run first.
    """
    again = journal.failed.copy() if retry else set()
    todo = {job.key for job in jobs if job.key not in journal or job.key in again}
    tally = Tally(rows=len(jobs), before=len(jobs) - len(todo))
    some = any(job.key in todo and job.task.gap for job in jobs)
    sessions: Sequence[Completer | None] = open_sessions() if some else [None]
    waiting = _Waiting([job for job in jobs if job.key in todo])
    begin = time.monotonic()
    for job in jobs:
        if job.key not in todo:
            each(job)
    with Progress(len(todo), "rows") as progress:
        for job, answers in _in_turn([_answered(waiting, session, settings, models) for session in sessions]):
            name = next((session.name for session in sessions if session), settings.model)
            journal.append(line_of(job, answers, name, int(time.time())))
            tally.add(answers, time.monotonic() - begin)
            progress.advance(f"{tally.speed:.1f} tokens/s")
            each(job)
    tally.failed = sum(job.key in journal.failed for job in jobs)
    return tally


Done = tuple[Job, list[Answer]]


class _Waiting:
    """The jobs that nobody has begun, in order."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left: dict[int, deque[Job]] = {}
        for job in jobs:
            self._left.setdefault(id(job.task), deque()).append(job)
        self._untouched = deque(self._left)

    def __bool__(self) -> bool:
        return bool(self._left)

    def take(self, latest: Task | None) -> Job:
        """The next job for who has just answered `latest`: of the same task if one is left, for its prompt is computed
        already; else of a task that nobody has begun; else any. There must be one."""
        task = id(latest)
        if task not in self._left:
            task = self._untouched.popleft() if self._untouched else next(iter(self._left))
        job = self._left[task].popleft()
        if not self._left[task]:
            del self._left[task]
        return job


def _in_turn(workers: Sequence[Iterator[Done | None]]) -> Iterator[Done]:
    """What the workers have done, as it is done. Each goes on until it yields None, and then the next one does."""
    turn = deque(workers)
    while turn:
        worker = turn.popleft()
        for done in worker:
            if done is None:
                turn.append(worker)
                break
            yield done


def _answered(
    waiting: _Waiting, session: Completer | None, settings: Settings, models: Collection[str]
) -> Iterator[Done | None]:
    """Take one job after the other while there are any; None is yielded where others had better go on first."""
    latest: Task | None = None
    while waiting:
        job = waiting.take(latest)
        if session and job.task is not latest:
            # What another row left in the cache was computed in other pieces, and sums of floats depend on those. The
            # samples of one row share their prompt: it is computed alike for each of them.
            session.forget()
        latest = job.task
        answers = yield from _answers(job, session, settings, models)
        yield job, answers


def _answers(
    job: Job, session: Completer | None, settings: Settings, models: Collection[str]
) -> Generator[None, None, list[Answer]]:
    task = job.task
    problem = task.problem
    if task.model is not None and task.model not in models:
        problem = f"{task.where}: the model {task.model!r} is not the one that answers: {', '.join(sorted(models))}"
    answers = []
    for sample in job.samples:
        if problem or session is None or task.gap is None:
            answers.append(failed(job, sample, Failure("BadRow", problem or "")))
            continue
        seed = job.seed(sample, settings)
        try:
            request = Request(task.gap, **(task.changes | {"seed": seed}))
            completion = yield from session.turns(request)
            answers.append(completed(job, sample, seed, completion))
        except Exception as error:  # whatever goes wrong with one row must not stop the others
            answers.append(failed(job, sample, Failure(type(error).__name__, " ".join(str(error).split()))))
    return answers
