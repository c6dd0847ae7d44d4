"""How right the validator is, on real files and spoilt ones. The judge is the running interpreter's own parser."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from assistant.bench import corpus, snippets
from assistant.bench.corpus import Block, Output, Source
from assistant.progress import Progress
from validators import PythonValidator, ReferenceState, ReferenceValidator
from validators.reference_closing import closing as reference_closing

Item = TypeVar("Item")
_PLACES = 50  # in one file, on which the reference and the validator are compared


class Count(NamedTuple):
    """How many of how many."""

    wrong: int
    of: int
    examples: tuple[str, ...] = ()
    """Enough of the text to find the place again."""


def watched(items: Iterable[Item], unit: str) -> Iterator[Item]:
    """The same, and on stderr how far they have come."""
    every = list(items)
    with Progress(len(every), unit) as progress:
        for item in every:
            yield item
            progress.advance()


def wrong_rejections(sources: Sequence[Source]) -> Count:
    """Boundaries between characters at which the next character of a file that parses was refused."""
    validator = PythonValidator()
    wrong, of, examples = 0, 0, []
    for source in watched(sources, "files"):
        state = validator.start("")
        for at, character in enumerate(source.text):
            verdict = validator.check(state, character)
            if verdict.accepted < 1:
                wrong += 1
                examples.append(f"{source.name}: {source.text[max(0, at - 40) : at]!r} then {character!r}")
                state = validator.start(source.text[: at + 1])
            else:
                state = verdict.state
        of += len(source.text)
        if not validator.complete(state):
            wrong += 1
            examples.append(f"{source.name} is not complete at its end")
    return Count(wrong, of, tuple(examples[:5]))


def bad_blocks(
    sources: Sequence[Source],
    count: int,
    seed: int,
    split: Callable[[str], list[str]] = corpus.pieces,
    tokens: Sequence[str] = (),
) -> list[Block]:
    """Blocks of three tokens that nothing can mend: the reference says so."""
    reference = ReferenceValidator()

    def is_bad(left: str, text: str) -> bool:
        return reference.check(reference.start(left), text).accepted < len(text)

    return list(corpus.bad_blocks(sources, count, seed, is_bad, split, tokens))


def bad_blocks_accepted(blocks: Sequence[Block]) -> Count:
    """Those that were accepted whole."""
    validator = PythonValidator()
    missed = [b for b in blocks if validator.check(validator.start(b.left), b.text).accepted == len(b.text)]
    return Count(len(missed), len(blocks), tuple(f"{block.left[-40:]!r} then {block.text!r}" for block in missed[:5]))


def late_detections() -> Count:
    """Hand-made bad snippets, on every version they are bad on, not refused exactly at their first dead character."""
    wrong, of, examples = 0, 0, []
    for version in snippets.VERSIONS:
        validator = PythonValidator(version)
        for snippet in snippets.bad():
            if version in snippet.versions:
                of += 1
                accepted = validator.check(validator.start(""), snippet.text).accepted
                if accepted != snippet.dead:
                    wrong += 1
                    examples.append(f"{version}: {snippet.text!r} at {accepted}, not {snippet.dead}")
    return Count(wrong, of, tuple(examples[:5]))


class Agreement(NamedTuple):
    """Of the validator with the slow reference, on texts behind random places in real files."""

    disagreements: Count
    unproven: int
    """Texts that the validator refused earlier than the reference, which knows no way to go on there either."""


def agreement(sources: Sequence[Source], count: int, seed: int) -> Agreement:
    """`count` real and spoilt texts of about 40 characters: both must accept the same number of characters."""
    rng = random.Random(seed)
    reference, validator = ReferenceValidator(), PythonValidator()
    wrong, unproven, done, examples = 0, 0, 0, []
    for number in watched(range(-(-count // _PLACES)), f"times {_PLACES} texts"):
        source = rng.choice(sources)
        slow, fast, at = reference.start(""), validator.start(""), 0
        places = min(_PLACES, count - number * _PLACES)
        for place in sorted(rng.choices(range(len(source.text)), k=places)):
            step = source.text[at:place]
            slow, fast, at = reference.check(slow, step).state, validator.check(fast, step).state, place
            text = source.text[place : place + 40]
            if done % 5:
                text = corpus.spoilt(rng, text)
            done += 1
            expected, got = _accepted(reference, slow, text), validator.check(fast, text).accepted
            if got < expected and _is_unproven(reference, slow, text[: got + 1]):
                unproven += 1
            elif got != expected:
                wrong += 1
                examples.append(f"{source.text[max(0, place - 60) : place]!r} then {text!r}: {expected}, {got}")
    return Agreement(Count(wrong, done, tuple(examples[:5])), unproven)


def agreement_on(outputs: Sequence[Output]) -> Agreement:
    """The same on texts that were written behind given ones, by a model for example."""
    reference, validator = ReferenceValidator(), PythonValidator()
    wrong, unproven, examples = 0, 0, []
    for output in watched(outputs, "texts of a model"):
        slow, fast = reference.start(output.prefix), validator.start(output.prefix)
        if reference.problems(slow) or validator.problems(fast):
            same = bool(reference.problems(slow)) == bool(validator.problems(fast))
            expected, got = (0, 0) if same else (0, -1)
        else:
            expected, got = _accepted(reference, slow, output.text), validator.check(fast, output.text).accepted
        if got < expected and got >= 0 and _is_unproven(reference, slow, output.text[: got + 1]):
            unproven += 1
        elif got != expected:
            wrong += 1
            examples.append(f"{output.prefix[-60:]!r} then {output.text!r}: {expected}, {got}")
    return Agreement(Count(wrong, len(outputs), tuple(examples[:5])), unproven)


def _accepted(reference: ReferenceValidator, state: ReferenceState, text: str) -> int:
    return reference.check(state, text).accepted


def _is_unproven(reference: ReferenceValidator, state: ReferenceState, text: str) -> bool:
    """Whether the reference, which lets ``text`` pass, knows no way to go on behind it."""
    least = reference.check(state, text).state
    return reference_closing(least.kept, least.outline, least.line, "") is None


class Middles(NamedTuple):
    """What became of gaps in real files."""

    refused: Count
    """True middles that were not viable at every character, or not complete at their end."""
    completed: Count
    """Wrong middles that were called complete although the file did not parse with them."""
    missed: Count
    """Wrong middles with which the file does parse, not called complete."""


def middles(sources: Sequence[Source], count: int, seed: int) -> Middles:
    """`count` gaps with their true middle, and as many with a spoilt one."""
    rng = random.Random(seed)
    refused, completed, missed, bad, good = [], [], [], 0, 0
    validator = PythonValidator()
    for cut in watched(corpus.cuts(sources, count, seed), "gaps"):
        begin = validator.start(cut.left, cut.right)
        state, viable = begin, not validator.problems(begin)
        for character in cut.middle:
            verdict = validator.check(state, character)
            viable = viable and verdict.accepted == 1
            state = verdict.state
        where = f"{cut.left[-60:]!r} | {cut.middle[:60]!r} | {cut.right[:60]!r}"
        if not (viable and validator.complete(state)):
            refused.append(where)
        other = corpus.spoilt(rng, cut.middle)
        verdict = validator.check(begin, other)
        complete = verdict.accepted == len(other) and validator.complete(verdict.state)
        parses = corpus.parses(cut.left + other + cut.right)
        bad, good = bad + (not parses), good + parses
        if complete and not parses:
            completed.append(f"{where} with {other[:60]!r}")
        if parses and not complete:
            missed.append(f"{where} with {other[:60]!r}")
    return Middles(
        Count(len(refused), count, tuple(refused[:5])),
        Count(len(completed), bad, tuple(completed[:5])),
        Count(len(missed), good, tuple(missed[:5])),
    )
