"""The decoding loop: propose a block, keep what may follow, score it in one pass, keep what is accepted.

There is one loop. Decoding token by token is `NoDraft`, decoding without rules is a validator that accepts all.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Hashable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from model.engine.accept import Accept, trusting, verified
from model.engine.contracts import (
    ASKED,
    Draft,
    Drafter,
    Forced,
    Interrupt,
    Interrupted,
    Ranking,
    Scorer,
    Share,
    Step,
    Stop,
    Validator,
    Window,
    never,
    nothing_forced,
)
from model.engine.drafters import common_prefix
from model.engine.order import Order

P = ParamSpec("P")
S = TypeVar("S", bound=Hashable)

PATIENCE = 256
"""Refused tokens after which the interrupt is asked again."""


def turns(
    prompt: Sequence[int],
    *,
    scorer: Scorer,
    validator: Validator[S],
    state: S,
    drafter: Drafter,
    order: Order,
    end_ids: Container[int],
    max_tokens: int,
    window: Window,
    accept: Accept = verified,
    forced: Forced[S] = nothing_forced,
    interrupt: Interrupt = never,
) -> Iterator[Step[S]]:
    """Yield one `Step` a pass until there is a reason to stop; the last step names it. And `ASKED` before each of them,
    and for each piece of the prompt: between asking for a pass and looking at its rows.

    `prompt` has at least one token. `state` is the validator's at the end of the prompt. At most `max_tokens` are kept.
    `window` says how many are drafted, `accept` which of them are kept; those that are `forced` are kept beforehand and
    cost no pass. What `scorer` already holds of the prompt is not computed again. What other texts ask for before this
    one goes on can be computed in the same pass (`model.engine.shared`).
    """
    if not prompt:
        raise ValueError("the prompt has no token")
    if stop := (yield from _prefill(prompt, scorer, drafter, order, interrupt)):
        yield Step(stop=stop)
        return
    ids = list(prompt)
    room = max_tokens
    while True:
        if stop := interrupt() or _full(room, scorer, len(ids)):
            yield Step(stop=stop)
            return
        # The pass itself gives one token more than the block has, and the cache must hold the block.
        longest = min(room - 1, scorer.capacity - len(ids))
        certain = forced(state)[:longest]
        width = min(window.width, longest - len(certain))
        try:
            step = yield from _advance(
                ids, certain, width, scorer, validator, state, drafter, order, end_ids, accept, interrupt
            )
        except Interrupted as interrupted:
            step = Step(stop=interrupted.stop)
        yield step
        if step.stop:
            return
        ids += step.ids
        room -= len(step.ids)
        state = step.states[-1]
        window = window.after(step)
        scorer.truncate(len(ids) - 1)


def _looked_at(every: Callable[P, Iterator[Step[S]]]) -> Callable[P, Iterator[Step[S]]]:
    @wraps(every)
    def steps(*args: P.args, **kwargs: P.kwargs) -> Iterator[Step[S]]:
        return (step for step in every(*args, **kwargs) if step is not ASKED)

    return steps


decode = _looked_at(turns)
"""`turns` of a text that is alone: its steps, without `ASKED`."""


def _prefill(
    prompt: Sequence[int], scorer: Scorer, drafter: Drafter, order: Order, interrupt: Interrupt
) -> Generator[Step[Any], None, Stop | None]:
    """Bring the cache to all of the prompt but its last token, which opens the first block.

    The drafter follows piece by piece: what it computes of a long prompt can then be broken off as well.
    """
    if len(prompt) > scorer.capacity:
        return "context"
    scorer.truncate(common_prefix(scorer.ids, prompt[:-1]))
    held = len(scorer.ids)
    while held < len(prompt) - 1:
        if stop := interrupt():
            return stop
        try:
            scorer.extend(prompt[held : min(held + scorer.piece, len(prompt) - 1)], order, interrupt)
            yield ASKED
            held = len(scorer.ids)
        except Interrupted as interrupted:
            return interrupted.stop
        if stop := interrupt():  # the drafter takes as long as some of the scorer's layers
            return stop
        drafter.propose(prompt[: held + 1], 0)
    return None


def _full(room: int, scorer: Scorer, length: int) -> Stop | None:
    return "length" if room <= 0 else "context" if length > scorer.capacity else None


def _advance(
    ids: Sequence[int],
    certain: tuple[int, ...],
    width: int,
    scorer: Scorer,
    validator: Validator[S],
    state: S,
    drafter: Drafter,
    order: Order,
    end_ids: Container[int],
    accept: Accept,
    interrupt: Interrupt,
) -> Generator[Step[Any], None, Step[S]]:
    """One pass over the last kept token, what is certain to follow it, and a draft of up to `width` tokens."""
    draft = drafter.propose([*ids, *certain], width)
    known = len(certain)
    viable, _ = validator.accept_block(state, (*certain, *draft.ids))
    viable -= known
    block = (*certain, *draft.ids[:viable])
    kept: list[int] = []
    chosen: list[tuple[Ranking, int]] = []
    states: list[S] = []
    refused = 0
    stop: Stop | None = None
    rankings = scorer.extend([ids[-1], *block], order, interrupt)
    yield ASKED
    for row, ranking in enumerate(rankings):
        drafted = block[row] if row < len(block) else None
        # What is certain is the first viable token of any order, so that nobody has to look for it.
        rule = trusting if row < known else accept
        choice = rule(drafted, _interruptible(ranking, interrupt), validator, state, end_ids)
        refused += choice.refused
        stop = choice.stop
        if stop != "dead end":
            chosen.append((ranking, choice.token))
        if stop:
            break
        state = choice.state
        kept.append(choice.token)
        states.append(state)
        if choice.token != drafted:
            break
    agreed = common_prefix(kept, block) - known
    return Step(
        ids=tuple(kept),
        states=tuple(states),
        source=draft.source,
        drafted=len(draft.ids),
        viable=viable,
        agreed=agreed,
        refused=refused,
        forced=known,
        width=width,
        shares=(*([Share("forced", known, known, known)] if certain else []), *_shares(draft, viable, agreed)),
        stop=stop,
        chosen=tuple(chosen),
    )


def _shares(draft: Draft, viable: int, agreed: int) -> Iterator[Share]:
    """What of a draft is whose: its first `viable` tokens were scored, its first `agreed` kept."""
    begin = 0
    for source, count in draft.parts:
        yield Share(source, count, *(min(max(total - begin, 0), count) for total in (viable, agreed)))
        begin += count


def _interruptible(ranking: Iterable[int], interrupt: Interrupt) -> Iterator[int]:
    """`ranking`, broken off where nothing viable is found for long and nobody waits any more."""
    for place, token in enumerate(ranking, 1):
        if place % PATIENCE == 0 and (stop := interrupt()):
            raise Interrupted(stop)
        yield token
