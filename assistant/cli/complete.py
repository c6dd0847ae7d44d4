"""`viable complete`: fill one gap of one file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from assistant import store
from assistant.beside import Project, Surroundings, nothing
from assistant.changes import check_replaceable, replace_file, unified
from assistant.cli.options import Flags, session_options
from assistant.completion import Completion, Request
from assistant.document import Gap, decode, gap_at, gap_at_mark, read_text
from assistant.errors import UsageProblem, ViableError
from assistant.interrupts import read_all
from assistant.opening import open_session

STDIN = "-"


@click.command()
@click.argument("file")
@click.option("--at", metavar="LINE:COL", help="Where to complete. Both count from 1, COL in characters.")
@click.option("--diff", is_flag=True, help="Print a patch of the file.")
@click.option("--in-place", is_flag=True, help="Change the file.")
@click.option("--json", "as_json", is_flag=True, help="Print the text with all that is known about it.")
@click.option("--stats", is_flag=True, help="Print counts and times on stderr.")
@session_options()
def command(file: str, at: str | None, diff: bool, in_place: bool, as_json: bool, stats: bool, flags: Flags) -> None:
    """Fill a gap in a Python file.

    \b
    viable complete app.py                      go on at the end of the file
    viable complete app.py --at 12:5            line 12, before its 5th character
    viable complete app.py                      at the mark, where the file says <CURSOR>
    viable complete app.py --at 12:5 --diff     show what would change
    viable complete app.py --at 12:5 --in-place change the file
    echo 'def add(a, b):' | viable complete -   from standard input
    viable complete app.py --json | jq .text    for scripts

    The model sees what stands on both sides of the gap. Together with the text that is printed,
    Python accepts the file. Where nothing valid was found, nothing is printed, one line on stderr
    says why, and the exit code is 1. A file that is broken already is completed as well as can
    be, with a warning that says where it breaks, and is never left more broken.

    The text is printed with "\\n" line ends; --diff and --in-place use the file's own. A mark is
    removed by them. The patch is for `patch -p1`.
    """
    if diff + in_place + as_json > 1:
        raise UsageProblem("--diff, --in-place and --json exclude each other")
    if in_place and file == STDIN:
        raise UsageProblem("--in-place needs a file, not standard input")
    if not file:
        raise UsageProblem("the file's name is empty")
    name = "<stdin>" if file == STDIN else file
    text = decode(read_all(sys.stdin.buffer), name) if file == STDIN else read_text(Path(file))
    gap = _gap(text, at, name)
    settings = flags.settings(None if file == STDIN else Path(file).parent)
    store.check(settings.model)
    settings.check_room()
    if in_place:
        check_replaceable(Path(file))

    completion = open_session(settings, at_once=True).complete(Request(gap, beside=_beside(file, gap)))
    _remark(name, gap, completion)
    if stats:
        click.echo(_stats(completion), err=True)
    if as_json:
        _put(_json(gap, completion))
    if not completion.text:
        line, column = gap.position
        raise ViableError(f"{name}:{line}:{column}: no completion: {completion.reason or completion.finish_reason}")
    if diff:
        _put(unified(name, text, gap.filled(completion.text)))
    elif in_place:
        replace_file(Path(file), text, gap.filled(completion.text))
    elif not as_json:
        _put(completion.text)
        if sys.stdout.isatty() and not completion.text.endswith("\n"):
            _put("\n")


def _gap(text: str, at: str | None, name: str) -> Gap:
    try:
        if at is None:
            return gap_at_mark(text)
        if not (found := re.fullmatch(r"(\d{1,9}):(\d{1,9})", at, re.ASCII)):
            raise UsageProblem(f"--at takes LINE:COL, two numbers from 1, not {at!r}")
        return gap_at(text, int(found[1]), int(found[2]))
    except UsageProblem as problem:
        raise UsageProblem(f"{name}: {problem}") from None


def _beside(file: str, gap: Gap) -> Callable[[], Surroundings]:
    if file == STDIN:
        return nothing
    return lambda: Project(Path(file).resolve()).surroundings(gap.prefix + gap.suffix)


def _remark(name: str, gap: Gap, completion: Completion) -> None:
    """Say on stderr what there is to say about a text that is handed out."""
    if completion.text and completion.reason:
        broken = completion.problems[:1]
        line, column = gap.place(broken[0]) if broken else gap.position
        kind = "warning" if broken else "note"
        click.echo(f"viable: {name}:{line}:{column}: {kind}: {completion.reason}", err=True)


def _stats(completion: Completion) -> str:
    c = completion
    tries = f" of {c.tries} tries, {c.answer_tokens} tokens of the one given" if c.tries > 1 else ""
    return (
        f"viable: {c.tokens} tokens in {c.passes} passes{tries} ({c.drafted} drafted, {c.accepted} accepted, "
        f"{c.fallbacks} fallbacks, {c.avoided} syntax errors avoided), prompt {c.prompt_tokens} tokens, "
        f"first after {c.ms_first:.0f} ms, all after {c.ms_total:.0f} ms, {c.tokens_per_second} tokens/s, "
        f"{c.finish_reason}, {c.model} on {c.device}{_drafters(c)}"
    )


def _drafters(completion: Completion) -> str:
    """A line for each drafter."""
    return "".join(
        f"\n  {name:<8}{each.passes:>5} passes"
        + (f", {each.proposed} proposed, {each.viable} viable, {each.kept} kept" if each.proposed else "")
        for name, each in sorted(completion.drafters.items())
    ) + (f"\n  window up to {completion.widest} tokens" if completion.widest else "")


def _json(gap: Gap, completion: Completion) -> str:
    """The completion's fields; problems by name, with their places in the file."""
    fields = msgspec.structs.asdict(completion)
    fields["drafters"] = {name: msgspec.structs.asdict(each) for name, each in completion.drafters.items()}
    fields["problems"] = [
        {"side": problem.side, "line": line, "column": column, "reason": problem.reason}
        for problem in completion.problems
        for line, column in [gap.place(problem)]
    ]
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def _put(text: str) -> None:
    """Print text byte for byte, whatever the platform makes of line ends and encodings."""
    if not sys.stdout:
        raise ViableError("standard output is closed: there is nowhere to print to")
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
