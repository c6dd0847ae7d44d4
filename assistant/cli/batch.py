"""`viable batch`: many gaps, from files to a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from assistant import store
from assistant.batch.answers import answers_of
from assistant.batch.files import Changes, Earlier
from assistant.batch.journal import Journal
from assistant.batch.keys import Job, companions, jobs, model_hash
from assistant.batch.manifest import Manifest, now
from assistant.batch.rows import STDIN, Task, read_tasks
from assistant.batch.runner import Tally, run
from assistant.changes import check_replaceable
from assistant.cli.options import Flags, session_options
from assistant.document import CURSOR_MARK
from assistant.errors import UsageProblem, as_line
from assistant.opening import open_sessions
from assistant.paths import expanded
from assistant.progress import duration
from assistant.settings import Settings

SOME_FAILED = 3
"""Exit code when all rows were tried and some have no completion."""


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, metavar="OUT.jsonl", help="Where the answers go.")
@click.option("--samples", type=int, default=1, metavar="N", help="Answers a row; sampled with --temperature [1].")
@click.option("--at-once", type=int, metavar="N", help="Rows answered together [auto: 8 where that is quicker].")
@click.option("--limit", type=int, metavar="N", help="Only the first N rows.")
@click.option("--shard", default="1/1", metavar="I/N", help="Only the I-th of every N rows or files, I from 1.")
@click.option("--retry-errors", "retry", is_flag=True, help="Do those rows again that failed.")
@click.option("--overwrite", is_flag=True, help="Start anew if OUT.jsonl exists.")
@click.option("--in-place", is_flag=True, help="Change the input files that say <CURSOR>.")
@click.option("--patch", metavar="FILE", help="Write the changes of those files as a patch.")
@session_options()
def command(
    inputs: tuple[str, ...],
    output: str,
    samples: int,
    at_once: int | None,
    limit: int | None,
    shard: str,
    retry: bool,
    overwrite: bool,
    in_place: bool,
    patch: str | None,
    flags: Flags,
) -> int:
    """Complete many prompts. A run that was stopped goes on where it was: give the same command again.

    \b
    viable batch HumanEval.jsonl.gz -o samples.jsonl
    viable batch gaps.jsonl -o out.jsonl --samples 10 --temperature 0.8
    viable batch 'src/**/*.py' -o out.jsonl --in-place
    viable batch requests.jsonl -o part2.jsonl --shard 2/4

    INPUT is JSON Lines (.jsonl, .jsonl.gz, or - for standard input), or Python files, folders and
    patterns, of which those are taken that say <CURSOR>. A row is one of

    \b
    {"task_id": "a/0", "prompt": "def f(x):\\n"}              as in HumanEval
    {"task_id": "b", "prefix": "x = ", "suffix": "\\n"}       a gap
    {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "…"}}

    "tries": 8 in the first two, "best_of": 8 in the body of the last, is --tries of that row alone.

    Each answer is on the disk as soon as it is there; in the end they are in the order of the rows.
    A row that cannot be answered becomes a row that says why. An answer is made again if its prompt, the model or a
    parameter changes; what it replaces is kept in OUT.jsonl.stale. The seed of an answer depends on
    --seed, the row's id and the number of the sample alone, so shards and order do not matter.
    A file that --in-place has filled keeps its row, as long as nobody changes the file.
    OUT.jsonl.manifest.json says what the run was.

    On a processor with the weights in 8 or 4 bits, rows are answered eight at a time, which is
    quicker and takes more memory; --at-once says how many. The answers are the same, but "ms" counts
    what other rows took meanwhile, and of more than two nothing is drafted. With --max-ms a row has
    the processor to itself.

    Exit code 0 if all rows have a completion, 3 if some have none.
    """
    names = list(expanded(inputs))
    _check(names, output, patch, samples, limit, at_once, in_place)
    part, parts = _shard(shard)
    settings = flags.settings()
    store.check(settings.model)
    earlier = Earlier(None if overwrite else Path(output))
    tasks = read_tasks(names, earlier.gap)
    _check_tasks(tasks, _chosen(tasks, limit, part, parts), settings, in_place)
    if samples > 1 and not settings.temperature and settings.tries == 1:
        _say("note: the temperature is 0, so all samples of a row will be the same")
    found = store.resolve(settings.model, offline=settings.offline)
    fingerprint, beside = model_hash(found), companions(found)
    every = earlier.still(jobs(tasks, samples, settings, [fingerprint, *beside.values()]))
    tasks = _tasks(every)
    chosen = set(map(id, _chosen(tasks, limit, part, parts)))
    _check_some(tasks)
    if overwrite:
        _start_anew(Path(output))
    mine = [job for job in every if id(job.task) in chosen]
    manifest = Manifest(
        inputs=names,
        output=output,
        model=found.name,
        model_hash=fingerprint,
        companions=beside,
        settings=settings,
        samples=samples,
        shard=f"{part}/{parts}",
        limit=limit,
        started=now(),
        rows=len(mine),
    )
    with Journal(Path(output)) as journal:
        if journal.repaired:
            _say(f"{output}: the last row was torn; its {journal.repaired} bytes are cut off")
        manifest.write(Path(output))
        changes = Changes(journal, in_place=in_place)
        models = {settings.model, found.name}
        try:
            tally = run(
                mine,
                journal,
                lambda: open_sessions(settings, at_once or 0),
                settings,
                models,
                retry=retry,
                each=changes.apply,
            )
        except KeyboardInterrupt:
            done = sum(job.key in journal for job in mine)
            _say(f"{done} of {len(mine)} rows are in {output}; the same command goes on from there")
            raise
        stale = journal.settle([job.key for job in every])
        if patch:
            changes.write_patch(Path(patch), mine)
        first = _first_failure(mine, journal)
    manifest.finished, manifest.answered, manifest.failed = now(), tally.rows - tally.failed, tally.failed
    manifest.tokens, manifest.seconds, manifest.avoided = tally.tokens, round(tally.seconds, 1), tally.avoided
    manifest.write(Path(output))
    for refusal in changes.refused:
        _say(refusal)
    if stale:
        _say(f"{stale} rows of other prompts, models or parameters are now in {output}.stale")
    _say(_report(tally, first))
    return SOME_FAILED if tally.failed or changes.refused else 0


def _check(
    inputs: Iterable[str],
    output: str,
    patch: str | None,
    samples: int,
    limit: int | None,
    at_once: int | None,
    in_place: bool,
) -> None:
    for name in (*inputs, *([patch] if patch else [])):
        if name != STDIN and Path(name).resolve() == Path(output).resolve():
            raise UsageProblem(f"{name}: cannot be OUT.jsonl as well")
    if min(number for number in (samples, limit, at_once) if number is not None) < 1:
        raise UsageProblem("--samples, --limit and --at-once must be at least 1")
    if in_place and patch:
        raise UsageProblem("--in-place and --patch exclude each other")
    if (in_place or patch) and samples > 1:
        raise UsageProblem("--in-place and --patch need one answer a file, so --samples 1")
    if os.path.exists(output) and not os.path.isfile(output):
        # Earlier answers are looked for in it: a device may never end.
        raise UsageProblem(f"{output}: is no regular file, so answers cannot be kept in it")
    if output.endswith(".gz"):
        raise UsageProblem(f"{output}: the answers are written as plain JSON Lines; compress them afterwards")


def _check_some(tasks: Sequence[Task]) -> None:
    if not tasks:
        raise UsageProblem(f"nothing to do: no rows, and no file that says {CURSOR_MARK}")


def _check_tasks(tasks: Sequence[Task], chosen: Sequence[Task], settings: Settings, in_place: bool) -> None:
    """Refuse what can be refused before a model is found and loaded."""
    _check_some(tasks)
    for task in chosen:
        if task.gap and not task.filled:
            if "max_tokens" not in task.changes:
                settings.check_room()
            if in_place and task.kind == "file":
                check_replaceable(Path(task.where))


def _chosen(tasks: Sequence[Task], limit: int | None, part: int, parts: int) -> list[Task]:
    """Those of this shard. It goes by their place in the input: what another shard fills in moves no file."""
    return [task for task in tasks[:limit] if task.number % parts == part % parts]


def _tasks(jobs: Iterable[Job]) -> list[Task]:
    """Those that the jobs belong to, each once, in order."""
    return list({id(job.task): job.task for job in jobs}.values())


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise UsageProblem(f"--shard takes I/N, I from 1 to N, not {text!r}")
    return part, parts


def _start_anew(output: Path) -> None:
    """Remove an earlier run's output, and nothing else."""
    with Journal(output):
        output.unlink(missing_ok=True)


def _first_failure(jobs: Iterable[Job], journal: Journal) -> str:
    """Why the first row that failed did so, in one line; empty if none did."""
    for job in jobs:
        if job.key in journal.failed:
            failure = next(answer.error for answer in answers_of(journal[job.key]) if answer.error)
            message = failure.message if job.task.problem else f"{job.task.name}: {failure.message}"
            return as_line(message)
    return ""


def _report(tally: Tally, failure: str) -> str:
    """`failure` is the first row's that failed."""
    parts = [f"{tally.rows} rows: {tally.rows - tally.failed} answered, {tally.failed} failed"]
    parts[0] += f" (first: {failure})" if failure else ""
    if tally.before:
        parts.append(f"{tally.before} of them were there before")
    if tally.before < tally.rows:
        parts.append(f"{tally.tokens} tokens in {duration(tally.seconds)}, {tally.speed:.1f} tokens/s")
        parts.append(f"{tally.avoided} syntax errors avoided in {tally.rows_with_avoided} rows")
    return "; ".join(parts)


def _say(line: str) -> None:
    click.echo(f"viable: {line}", err=True)
