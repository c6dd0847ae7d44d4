"""Input files that say <CURSOR>: changed in place, or shown as a patch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from assistant.batch.answers import answers_of
from assistant.batch.journal import Journal
from assistant.batch.keys import Job
from assistant.changes import replace_file, unified, write_whole
from assistant.document import gap_at_mark, read_text
from assistant.errors import ViableError

Changer = Callable[[Path, str, str], None]
"""Gets a file, its text and what the text is to become."""


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
        completion = answers_of(self._journal[job.key])[0].completion
        if not completion:
            return
        try:
            before = read_text(Path(task.where))
            if gap_at_mark(before) != task.gap:
                raise ViableError(f"{task.where}: not changed: it was changed meanwhile")
            change(Path(task.where), before, task.gap.filled(completion))
        except ViableError as error:
            self.refused.append(str(error))
