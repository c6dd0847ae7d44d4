"""Input files that say <CURSOR>: changed in place, or shown as a patch; and known again once they are changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from assistant.batch.answers import Answer, Filled, answers_of, read_line, text_hash
from assistant.batch.journal import Journal
from assistant.batch.keys import Job
from assistant.changes import replace_file, unified, write_whole
from assistant.document import Gap, gap_at_mark, read_text
from assistant.errors import ViableError

Changer = Callable[[Path, str, str], None]
"""Gets a file, its text and what the text is to become."""


class Earlier:
    """What earlier runs have filled in, by the rows of their output.

    A filled file has no mark any more. Its text with the completion taken out again is the gap that was asked about,
    and so gives the key of its row; a key with another model or other parameters is not among `keys`.
    """

    def __init__(self, output: Path | None) -> None:
        """`output` may be missing, and torn anywhere; None is no output. That it cannot be read, the journal says."""
        self.keys: set[str] = set()
        self._filled: dict[str | int, list[Filled]] = {}
        if output and output.is_file():
            with contextlib.suppress(OSError), output.open("rb") as file:
                for line in file:
                    self._add(line)

    def _add(self, line: bytes) -> None:
        if b'"filled":{' not in line:  # most rows of a large output are of no file: they need not be decoded
            return
        answer = read_line(line.removesuffix(b"\n"))
        if isinstance(answer, Answer) and isinstance(answer.filled, Filled):
            self.keys.add(answer.key)
            self._filled.setdefault(answer.task_id, []).append(answer.filled)

    def gap(self, name: str, text: str) -> Gap | None:
        """The gap that was filled, if the file `name` holds just what a run has made of it; else None."""
        found = (filled.gap(text) for filled in reversed(self._filled.get(name, [])))
        return next((gap for gap in found if gap), None)

    def still(self, jobs: Iterable[Job]) -> Sequence[Job]:
        """The jobs without those for filled files that were filled by another model or with other parameters."""
        return [job for job in jobs if not job.task.filled or job.key in self.keys]


class Changes:
    """What the answers in a journal change in the files that were asked about.

    An answer is in the journal before its file is touched: a run that is killed in between does it when it goes on.
    """

    def __init__(self, journal: Journal, *, in_place: bool) -> None:
        self._journal = journal
        self._in_place = in_place
        self.refused: list[str] = []
        """Why files could not be changed, a line each."""

    def apply(self, job: Job) -> None:
        """Change the file of a job that has its answer, if that is wanted."""
        if self._in_place:
            self._try(job, replace_file)

    def write_patch(self, path: Path, jobs: Iterable[Job]) -> None:
        """Write the changes of all jobs as one patch."""
        parts: list[str] = []
        for job in jobs:
            self._try(job, lambda name, before, after: parts.append(unified(str(name), before, after)))
        try:
            write_whole(path, "".join(parts).encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise ViableError(f"{path}: not written: {(error.strerror or str(error)).lower()}") from None

    def _try(self, job: Job, change: Changer) -> None:
        task = job.task
        if task.kind != "file" or task.gap is None:
            return
        answer = answers_of(self._journal[job.key])[0]
        if not answer.completion:
            return
        try:
            before = read_text(Path(task.where))
            if isinstance(answer.filled, Filled) and text_hash(before) == answer.filled.sha256:
                return  # by this run or an earlier one
            if task.filled or gap_at_mark(before) != task.gap:
                raise ViableError(f"{task.where}: not changed: it was changed meanwhile")
            change(Path(task.where), before, task.gap.filled(answer.completion))
        except ViableError as error:
            self.refused.append(str(error))
