"""Two rules of acceptance on the same gaps: what the lossy one gains and what it loses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.eval.fim import parses
from model.train.gaps import Cut

RULES = ("verified", "syntax")


class Session(Protocol):
    """What is asked of a session."""

    def complete(self, request: Request) -> Completion: ...


@dataclass(frozen=True)
class Rule:
    """What came of the gaps under one rule. Shares are 0 to 1."""

    rule: str
    gaps: int
    tokens_per_second: float
    """All tokens over all time after the prompts."""
    tokens_per_pass: float
    parses: float
    exact: float
    """The answer is the text that was cut out."""
    same: float
    """The answer is the verified one."""
    same_characters: float
    """Share of the verified answers' characters that come before the first difference."""


def compare(session: Session, cuts: Sequence[Cut], progress: Callable[[], None] = lambda: None) -> list[Rule]:
    """A result per rule; the first is what the others are compared with."""
    found: dict[str, list[Completion]] = {}
    for rule in RULES:
        found[rule] = []
        for cut in cuts:
            found[rule].append(session.complete(Request(Gap(cut.prefix, cut.suffix), accept=rule)))
            progress()
    return [_rule(rule, cuts, found[rule], found[RULES[0]]) for rule in RULES]


def _rule(name: str, cuts: Sequence[Cut], found: Sequence[Completion], verified: Sequence[Completion]) -> Rule:
    def share(values: Sequence[bool]) -> float:
        return round(sum(values) / len(values), 4)

    tokens = sum(each.tokens for each in found)
    seconds = sum(each.ms_total - each.ms_first for each in found) / 1000
    pairs = list(zip(found, verified, strict=True))
    shared = sum(_common(each.text, other.text) for each, other in pairs)
    return Rule(
        rule=name,
        gaps=len(cuts),
        tokens_per_second=round(tokens / max(seconds, 1e-9), 1),
        tokens_per_pass=round(tokens / max(sum(each.passes for each in found), 1), 3),
        parses=share([parses(cut.prefix + each.text + cut.suffix) for cut, each in zip(cuts, found, strict=True)]),
        exact=share([each.text == cut.middle for cut, each in zip(cuts, found, strict=True)]),
        same=share([each.text == other.text for each, other in pairs]),
        same_characters=round(shared / max(sum(len(other.text) for other in verified), 1), 4),
    )


def _common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def table(rules: Sequence[Rule]) -> str:
    """For people."""
    names = [field.name for field in fields(Rule)]
    lines = ["".join(f"{name.replace('_', ' '):>18}" for name in names)]
    lines += ["".join(f"{getattr(rule, name):>18}" for name in names) for rule in rules]
    return "\n".join(lines)
