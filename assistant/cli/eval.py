"""`viable eval`: how good the answers are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assistant.cli import eval_beside, eval_model
from assistant.cli.options import Flags, held_out_options, session_options
from assistant.errors import UsageProblem, ViableError

if TYPE_CHECKING:
    from assistant.completion import Completion
    from assistant.eval.served import Drafting, Served


@click.group()
def command() -> None:
    """Measure how good the answers are. Each command prints a table and ends in one line of JSON."""


for _command in (
    eval_model.source,
    eval_model.gaps,
    eval_model.routing,
    eval_model.rounding,
    eval_model.context,
    eval_model.claims,
    eval_beside.imports,
):
    command.add_command(_command)


@command.command()
@click.option("--files", default=20, show_default=True, help="Held-out files to cut gaps from, three each.")
@click.option("--beginnings", is_flag=True, help="Also go on behind the first half of every file.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, each with the model.")
@held_out_options
@session_options()
def fim(files: int, beginnings: bool, jobs: int, site: Path, draw: int, flags: Flags) -> None:
    """Fill gaps of real files that no part of this project was trained on.

    One gap each at the end of a line, of one to eight whole lines, and of any 20 to 300 characters. Files are those of
    the held-out packages that are installed, between 1.5 and 6 kB. Behind a file's first half there is no one right
    answer: what is written there must parse, and counts for tokens per pass. Several processes are quicker where one
    does not keep the machine busy, as on a GPU with many cores beside it; `ms` is then not what one user waits. Ctrl-C
    ends with the figures of the gaps that are filled.
    """
    from assistant.eval import fim as evaluation
    from assistant.eval.jobs import answering
    from assistant.eval.served import drafting, drafting_table, results, serve, table
    from assistant.progress import Progress

    found = evaluation.required(site, files, draw)
    cuts = evaluation.gaps(found, draw) + (evaluation.beginnings(found) if beginnings else [])
    settings = flags.settings()
    completions: list[Completion] = []
    stopped = None
    try:
        with answering(settings, jobs) as answers, Progress(len(cuts), "gaps") as progress:
            for completion in serve(answers, cuts, settings.max_tokens):
                completions.append(completion)
                progress.advance()
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
    if completions:
        each, drafted = results(cuts, completions), drafting(completions)
        click.echo(table(each))
        click.echo(drafting_table(drafted))
        packages = sorted({file.package for file in found})
        click.echo(_line(each, drafted, completions[0], len(found), packages))
    if stopped:
        raise stopped


@command.command()
@click.argument("problems", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", default="humaneval.jsonl", show_default=True, help="Where answers are kept.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only N problems, evenly spread.")
@click.option("--raw/--no-raw", default=True, help="The model alone, too. [yes]")
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Answers a problem.")
@session_options()
def humaneval(problems: Path, output: str, limit: int | None, raw: bool, samples: int, flags: Flags) -> None:
    """Share of HumanEval's problems that are solved, with the validator and without it.

    \b
    viable eval humaneval HumanEval.jsonl.gz --max-tokens 400
    viable eval humaneval HumanEval.jsonl.gz --limit 40 --no-raw
    viable eval humaneval HumanEval.jsonl.gz --samples 10 --temperature 0.8

    PROBLEMS is the file of github.com/openai/human-eval, which is not part of this project. The programs are RUN, with
    the problems' tests, each in a process of its own without network and with limits of time, memory and files, which
    contain accidents but are no jail. Given again, the command goes on where it was stopped. Validated answers end with
    the function (--unit function); raw ones where its text is over.
    """
    from assistant.eval import humaneval as evaluation
    from assistant.progress import Progress
    from assistant.session import open_session

    chosen = evaluation.subset(evaluation.read_problems(problems), limit)
    settings = flags.settings()
    if samples > 1 and not settings.temperature:
        raise UsageProblem("--samples needs a --temperature above 0: at 0 all answers are the same")
    modes: list[evaluation.Mode] = ["validated", "raw"] if raw else ["validated"]
    session = open_session(settings)
    with Progress(len(chosen) * samples * len(modes), "answers") as progress:
        scores = evaluation.evaluate(session, chosen, modes, samples, Path(output), progress.advance)
    click.echo(evaluation.table(scores))
    about = {"model": session.name, "device": session.device, "temperature": settings.temperature}
    click.echo(json.dumps({"humaneval": [asdict(score) for score in scores], **about}))


@command.command()
@click.option("--files", default=10, show_default=True, help="Held-out files to cut gaps from, three each.")
@held_out_options
@session_options()
def accept(files: int, site: Path, draw: int, flags: Flags) -> None:
    """What `--accept syntax` gains in speed and loses in text, on gaps of held-out files."""
    from assistant.eval import accepting, fim
    from assistant.progress import Progress
    from assistant.session import open_session

    found = fim.required(site, files, draw)
    cuts = fim.gaps(found, draw)
    session = open_session(flags.settings())
    with Progress(2 * len(cuts), "gaps") as progress:
        rules = accepting.compare(session, cuts, progress.advance)
    click.echo(accepting.table(rules))
    about = {"files": len(found), "model": session.name, "device": session.device}
    click.echo(json.dumps({"accept": [asdict(rule) for rule in rules], **about}))


@command.command()
@click.option("--prompts", default=40, show_default=True, help="Requests to compare, four per held-out file.")
@held_out_options
@session_options()
def exact(prompts: int, site: Path, draw: int, flags: Flags) -> None:
    """Compare drafted text with the text that comes token by token, greedily, under the same validator.

    Fails with the first tokens that differ, if any do. 32 tokens an answer, if --max-tokens does not say otherwise.
    """
    from dataclasses import replace

    from assistant.eval import exact as evaluation
    from assistant.eval import fim as held_out
    from assistant.progress import Progress
    from assistant.session import open_session

    asked = evaluation.prompts(held_out.required(site, -(-prompts // 4), draw), prompts, draw)
    flags = replace(flags, temperature=0.0, max_tokens=flags.max_tokens or evaluation.MAX_TOKENS)
    session = open_session(flags.settings())
    pairs = []
    with Progress(len(asked), "prompts") as progress:
        for pair in evaluation.compare(session, asked, session.settings.max_tokens):
            pairs.append(pair)
            progress.advance()
            if pair.difference is not None:
                click.echo(f"{pair.prompt.name}: token {pair.difference} differs: {pair.texts[0]!r}, {pair.texts[1]!r}")
    equal = sum(pair.difference is None for pair in pairs)
    tokens, passes = sum(len(pair.drafted) for pair in pairs), sum(pair.passes for pair in pairs)
    click.echo(f"{equal} of {len(pairs)} equal, {tokens} tokens in {passes} passes with drafts")
    figures = {"prompts": len(pairs), "equal": equal, "tokens": tokens, "passes": passes}
    click.echo(json.dumps({"exact": figures, "draw": draw, "model": session.name, "device": session.device}))
    if equal < len(pairs):
        raise ViableError(f"{len(pairs) - equal} of {len(pairs)} drafted texts differ")


def _line(results: list[Served], drafted: Drafting, any_of: Completion, files: int, packages: list[str]) -> str:
    return json.dumps(
        {
            "fim": [asdict(result) for result in results],
            **asdict(drafted),
            "files": files,
            "packages": packages,
            "model": any_of.model,
            "device": any_of.device,
        }
    )
