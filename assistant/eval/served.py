"""Gap-filling as it is served: what comes out of a session, validator, cutting and all, on files not trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from assistant.completion import Completion, Request
from assistant.document import Gap
from assistant.eval.fim import parses
from assistant.eval.jobs import Answers
from model.train.gaps import Cut


@dataclass(frozen=True)
class Served:
    """What came of the gaps of one shape. Shares are 0 to 1."""

    shape: str
    gaps: int
    parses: float
    """`ast.parse` accepts the file with the answer in the gap, which is nothing where nothing was answered."""
    answered: float
    """The answer is not empty."""
    exact: float
    """The answer is the text that was cut out."""
    exact_but_blanks: float
    """The same, white space at both ends aside."""
    closed: float
    """Decoding ended by itself or at the right-hand text, not at a limit."""
    tokens_per_pass: float
    refused: int
    """Tokens that the model preferred and the validator refused."""
    ms: float
    """Median milliseconds of a request."""


def serve(answers: Answers, cuts: Sequence[Cut], max_tokens: int) -> Iterator[Completion]:
    """The completions in the order of `cuts`, as they are ready."""
    return answers(Request(Gap(cut.prefix, cut.suffix), max_tokens=max_tokens) for cut in cuts)


def results(cuts: Sequence[Cut], completions: Sequence[Completion]) -> list[Served]:
    """One per shape, of those that were completed: all of `cuts`, or the first of them."""
    pairs = list(zip(cuts, completions, strict=False))
    shapes = dict.fromkeys(cut.shape for cut, _ in pairs)
    return [_result(shape, [pair for pair in pairs if pair[0].shape == shape]) for shape in shapes]


def _result(shape: str, pairs: Sequence[tuple[Cut, Completion]]) -> Served:
    def share(holds: Callable[[Cut, Completion], bool]) -> float:
        return round(sum(holds(cut, completion) for cut, completion in pairs) / len(pairs), 4)

    passes = sum(completion.passes for _, completion in pairs)
    return Served(
        shape=shape,
        gaps=len(pairs),
        parses=share(lambda cut, found: parses(cut.prefix + found.text + cut.suffix)),
        answered=share(lambda cut, found: bool(found.text)),
        exact=share(lambda cut, found: found.text == cut.middle),
        exact_but_blanks=share(lambda cut, found: found.text.strip() == cut.middle.strip()),
        closed=share(lambda cut, found: found.finish_reason in ("end", "closed")),
        tokens_per_pass=round(sum(completion.tokens for _, completion in pairs) / max(passes, 1), 3),
        refused=sum(completion.avoided for _, completion in pairs),
        ms=round(median(completion.ms_total for _, completion in pairs), 1),
    )


@dataclass(frozen=True)
class Drafting:
    """What the drafters gave, over all gaps."""

    tokens_per_pass: float
    proposed: dict[str, int]
    """Tokens by drafter."""
    kept: dict[str, int]


def drafting(completions: Sequence[Completion]) -> Drafting:
    """Added up over all answers: a long one counts for more than a short one."""
    tokens, passes = (sum(getattr(each, name) for each in completions) for name in ("tokens", "passes"))
    proposed, kept = Counter[str](), Counter[str]()
    for each in completions:
        for name, did in each.drafters.items():
            proposed[name] += did.proposed
            kept[name] += did.kept
    return Drafting(round(tokens / max(passes, 1), 3), dict(proposed), dict(kept))


def drafting_table(drafted: Drafting) -> str:
    """For people."""
    shares = [
        f"{name} kept {drafted.kept[name]} of {count}" for name, count in sorted(drafted.proposed.items()) if count
    ]
    return ", ".join([f"{drafted.tokens_per_pass:.2f} tokens per pass in all", *shares])


def table(results: Sequence[Served]) -> str:
    """For people."""
    columns = ("gaps", "parses", "answered", "exact", "stripped", "closed", "tok/pass", "refused", "ms")
    lines = [f"{'gap':12}" + "".join(f"{name:>10}" for name in columns)]
    for result in results:
        values = asdict(result)
        cells = [f"{values['gaps']}"]
        cells += [f"{100 * values[key]:.1f}%" for key in ("parses", "answered", "exact", "exact_but_blanks", "closed")]
        cells += [f"{result.tokens_per_pass:.2f}", f"{result.refused}", f"{result.ms:.0f}"]
        lines.append(f"{result.shape:12}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)
