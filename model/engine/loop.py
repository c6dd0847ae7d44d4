"""The decoding loop: propose a block, keep what may follow, score it in one pass, keep what is accepted.

There is one loop. Decoding token by token is `NoDraft`, decoding without rules is a validator that accepts all.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from model.engine.accept import Accept, verified
from model.engine.contracts import (
    Drafter,
    Interrupt,
    Interrupted,
    Scorer,
    Step,
    Stop,
    Validator,
    Window,
    never,
)
from model.engine.order import Order

S = TypeVar("S", bound=Hashable)

PREFILL_CHUNK = 256
"""Prompt tokens per pass: long enough to be efficient, short enough to be interrupted."""

PATIENCE = 256
"""Refused tokens after which the interrupt is asked again."""


def decode(
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
    interrupt: Interrupt = never,
) -> Iterator[Step[S]]:
    """Yield one `Step` a pass until there is a reason to stop; the last step names it.

    `prompt` has at least one token. `state` is the validator's at the end of the prompt. At most `max_tokens` are kept.
    `window` says how many are drafted, `accept` which of them are kept. What `scorer` already holds of the prompt is
    not computed again.
    """
    if not prompt:
        raise ValueError("the prompt has no token")
    if stop := _prefill(prompt, scorer, order, interrupt):
        yield Step(stop=stop)
        return
    ids = list(prompt)
    room = max_tokens
    while True:
        if stop := interrupt() or _full(room, scorer, len(ids)):
            yield Step(stop=stop)
            return
        # The pass itself gives one token more than was drafted, and the cache must hold the block.
        width = min(window.width, room - 1, scorer.capacity - len(ids))
        try:
            step = _advance(ids, width, scorer, validator, state, drafter, order, end_ids, accept, interrupt)
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


def _prefill(prompt: Sequence[int], scorer: Scorer, order: Order, interrupt: Interrupt) -> Stop | None:
    """Bring the cache to all of the prompt but its last token, which opens the first block."""
    if len(prompt) > scorer.capacity:
        return "context"
    scorer.truncate(common_prefix(scorer.ids, prompt[:-1]))
    while (held := len(scorer.ids)) < len(prompt) - 1:
        if stop := interrupt():
            return stop
        try:
            scorer.extend(prompt[held : min(held + PREFILL_CHUNK, len(prompt) - 1)], order, interrupt)
        except Interrupted as interrupted:
            return interrupted.stop
    return None


def _full(room: int, scorer: Scorer, length: int) -> Stop | None:
    return "length" if room <= 0 else "context" if length > scorer.capacity else None


def _advance(
    ids: Sequence[int],
    width: int,
    scorer: Scorer,
    validator: Validator[S],
    state: S,
    drafter: Drafter,
    order: Order,
    end_ids: Container[int],
    accept: Accept,
    interrupt: Interrupt,
) -> Step[S]:
    """One pass over the last kept token and a draft."""
    draft = drafter.propose(ids, width)
    viable, _ = validator.accept_block(state, draft.ids)
    block = draft.ids[:viable]
    kept: list[int] = []
    states: list[S] = []
    agreed = refused = 0
    stop: Stop | None = None
    for row, ranking in enumerate(scorer.extend([ids[-1], *block], order, interrupt)):
        drafted = block[row] if row < viable else None
        choice = accept(drafted, _interruptible(ranking, interrupt), validator, state, end_ids)
        refused += choice.refused
        stop = choice.stop
        if stop:
            break
        state = choice.state
        kept.append(choice.token)
        states.append(state)
        if choice.token != drafted:
            break
        agreed += 1
    return Step(tuple(kept), tuple(states), draft.source, len(draft.ids), viable, agreed, refused, stop)


def _interruptible(ranking: Iterable[int], interrupt: Interrupt) -> Iterator[int]:
    """`ranking`, broken off where nothing viable is found for long and nobody waits any more."""
    for place, token in enumerate(ranking, 1):
        if place % PATIENCE == 0 and (stop := interrupt()):
            raise Interrupted(stop)
        yield token


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens `a` and `b` begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
