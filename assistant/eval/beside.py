"""Whether the definitions of imported names help: lines of held-out files that use one, written with them and without.

A gap begins where an imported name is first used on a line and ends with the line. The packages are held out of all
training, and what the model is told comes from their other files as it does in an editor.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import comb
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Protocol

from assistant.beside import Project
from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.eval.fim import File
from assistant.outline import imports

PER_FILE = 2
"""Gaps of one file, so that no file has much of the say."""


@dataclass(frozen=True)
class Use:
    """A line of a held-out file, cut where it uses an imported name."""

    path: Path
    gap: Gap
    middle: str
    name: str


@dataclass(frozen=True)
class Compared:
    """What definitions did for the gaps. `only` counts discordant pairs."""

    gaps: int
    exact_without: int
    exact_with: int
    only_without: int
    only_with: int
    p: float
    """Of McNemar's exact test: how likely a difference as large is if there is none."""
    begins_without: int
    """Answers that have the line's beginning right: the name, and what opens behind it."""
    begins_with: int
    prompt_without: int
    """Median tokens."""
    prompt_with: int
    first_ms_without: float
    """Median milliseconds to the first token, with nothing computed before."""
    first_ms_with: float

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Completer(Protocol):
    """What is asked of a session."""

    def complete(self, request: Request) -> Completion: ...

    def forget(self) -> None: ...


def uses(files: Sequence[File], site: Path, count: int, draw: int) -> list[Use]:
    """Up to `count` gaps, drawn by `draw`. Only names that a file of the same package defines."""
    found: list[Use] = []
    for file in files:
        mine = list(_uses(file, site))
        Random(f"{draw} {file.path}").shuffle(mine)
        found += mine[:PER_FILE]
        if len(found) >= count:
            break
    return found[:count]


def _uses(file: File, site: Path) -> Iterator[Use]:
    path = (site / file.path).resolve()
    project = Project(path)
    # A module is told of by what is used of it, a name by itself.
    known = {each.bound for each in imports(file.text) if _told(project, file.text, each.bound)}
    if not known:
        return
    name = re.compile(rf"(?<![\w.\"'#])({'|'.join(map(re.escape, sorted(known)))})(?!\w)")
    inside = _inside(file.text)
    begin = 0
    for number, line in enumerate(file.text.splitlines(keepends=True), 1):
        place = name.search(line)
        if place and number in inside and not line.lstrip().startswith(("import ", "from ", "#", "@")):
            start, end = begin + place.start(), begin + len(line.rstrip())
            middle = file.text[start:end]
            if middle.count("(") == middle.count(")"):  # else the statement goes on in the next line
                yield Use(path, Gap(file.text[:start], file.text[end:]), middle, place[1])
        begin += len(line)


def _told(project: Project, text: str, bound: str) -> bool:
    only = [line for line in imports(text) if line.bound == bound]
    return any(True for each in only for _ in project.definitions(each, text))


def _inside(text: str) -> set[int]:
    """Lines, from 1, of which some expression has a name: no docstrings, no imports."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name | ast.Attribute):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def compare(
    session: Completer, gaps: Sequence[Use], tokens: int, max_tokens: int, progress: Callable[[], None] = lambda: None
) -> Compared:
    """Every gap twice, with `tokens` of definitions at most and without, each as if it were the first request."""
    pairs: list[tuple[Use, Completion, Completion]] = []
    for use in gaps:
        answers = []
        for room in (0, tokens):
            session.forget()
            whole = use.gap.prefix + use.gap.suffix
            around = Project(use.path)
            request = Request(
                use.gap,
                max_tokens=max_tokens,
                temperature=0.0,
                context_files=room,
                beside=partial(around.surroundings, whole),
            )
            answers.append(session.complete(request))
            progress()
        pairs.append((use, answers[0], answers[1]))
    return compared(pairs)


def compared(pairs: Sequence[tuple[Use, Completion, Completion]]) -> Compared:
    """Without, with -> the counts."""

    def exact(use: Use, answer: Completion) -> bool:
        return answer.text.strip().partition("\n")[0].rstrip() == use.middle

    def begins(use: Use, answer: Completion) -> bool:
        found = re.match(rf"{re.escape(use.name)}[\w.]*\W?", use.middle)
        return bool(found) and answer.text.strip().startswith(found[0] if found else "")

    hits = [(exact(use, without), exact(use, told)) for use, without, told in pairs]
    only_without, only_with = hits.count((True, False)), hits.count((False, True))
    return Compared(
        gaps=len(pairs),
        exact_without=sum(a for a, _ in hits),
        exact_with=sum(b for _, b in hits),
        only_without=only_without,
        only_with=only_with,
        p=round(mcnemar(only_without, only_with), 4),
        begins_without=sum(begins(use, without) for use, without, _ in pairs),
        begins_with=sum(begins(use, told) for use, _, told in pairs),
        prompt_without=int(median(without.prompt_tokens for _, without, _ in pairs)),
        prompt_with=int(median(told.prompt_tokens for _, _, told in pairs)),
        first_ms_without=median(without.ms_first for _, without, _ in pairs),
        first_ms_with=median(told.ms_first for _, _, told in pairs),
    )


def mcnemar(b: int, c: int) -> float:
    """Two-sided exact p of `b` against `c` discordant pairs (McNemar 1947; a sign test on them)."""
    n = b + c
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(b, c) + 1)) / 2**n) if n else 1.0


def table(found: Compared) -> str:
    """For people."""
    return "\n".join(
        (
            f"{'':<28}{'without':>10}{'with':>10}",
            f"{'exact line':<28}{found.exact_without:>10}{found.exact_with:>10}   of {found.gaps}",
            f"{'exact in this way alone':<28}{found.only_without:>10}{found.only_with:>10}   p {found.p:.4f}, McNemar",
            f"{'begins as it does':<28}{found.begins_without:>10}{found.begins_with:>10}",
            f"{'tokens of the prompt':<28}{found.prompt_without:>10}{found.prompt_with:>10}   median",
            f"{'ms to the first token':<28}{found.first_ms_without:>10.0f}{found.first_ms_with:>10.0f}   median, cold",
        )
    )
