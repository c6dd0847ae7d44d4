"""The decoding loop: propose a block, keep what may follow, score it in one pass, keep what the model agrees with.

There is one loop. Decoding token by token is `NoDraft`, decoding without rules is a validator that accepts all. A
drafted token is kept when it is the best *viable* token of the model's own row at that place, so the drafter changes
the number of passes and never the text (Leviathan et al. 2023, section 2.3, for a draft that is certain of itself).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

from model.engine.contracts import Drafter, Scorer, Step, Stop, Validator
from model.engine.order import Order

S = TypeVar("S", bound=Hashable)

PREFILL_CHUNK = 512
"""Prompt tokens per pass: long enough to be efficient, short enough to be interrupted."""

Interrupt = Callable[[], Literal["cancelled", "time"] | None]
"""Asked before every pass."""


def never() -> None:
    """The interrupt that never comes."""


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
    width: int,
    interrupt: Interrupt = never,
) -> Iterator[Step[S]]:
    """Yield one `Step` a pass until there is a reason to stop; the last step names it.

    `prompt` has at least one token. `state` is the validator's at the end of the prompt. At most `max_tokens` are kept,
    `width` are drafted at a time. What `scorer` already holds of the prompt is not computed again.
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
        step = _advance(ids, room, scorer, validator, state, drafter, order, end_ids, width)
        yield step
        if step.stop:
            return
        ids += step.ids
        room -= len(step.ids)
        state = step.states[-1]
        scorer.truncate(len(ids) - 1)


def _prefill(prompt: Sequence[int], scorer: Scorer, order: Order, interrupt: Interrupt) -> Stop | None:
    """Bring the cache to all of the prompt but its last token, which opens the first block."""
    if len(prompt) > scorer.capacity:
        return "context"
    scorer.truncate(common_prefix(scorer.ids, prompt[:-1]))
    while (held := len(scorer.ids)) < len(prompt) - 1:
        if stop := interrupt():
            return stop
        scorer.extend(prompt[held : min(held + PREFILL_CHUNK, len(prompt) - 1)], order)
    return None


def _full(room: int, scorer: Scorer, length: int) -> Stop | None:
    return "length" if room <= 0 else "context" if length > scorer.capacity else None


def _advance(
    ids: Sequence[int],
    room: int,
    scorer: Scorer,
    validator: Validator[S],
    state: S,
    drafter: Drafter,
    order: Order,
    end_ids: Container[int],
    width: int,
) -> Step[S]:
    """One pass over the last kept token and a draft."""
    # The pass itself gives one token more than was drafted, and the cache must hold the block.
    draft = drafter.propose(ids, min(width, room - 1, scorer.capacity - len(ids)))
    viable, _ = validator.accept_block(state, draft.ids)
    block = draft.ids[:viable]
    kept: list[int] = []
    states: list[S] = []
    agreed = refused = 0
    stop: Stop | None = None
    for row, ranking in enumerate(scorer.extend([ids[-1], *block], order)):
        choice = _first_viable(ranking, validator, state, end_ids)
        refused += choice.refused
        stop = choice.stop
        if stop:
            break
        state = choice.state
        kept.append(choice.token)
        states.append(state)
        if row == len(block) or choice.token != block[row]:
            break
        agreed += 1
    return Step(tuple(kept), tuple(states), draft.source, len(draft.ids), viable, agreed, refused, stop)


class _Choice(NamedTuple, Generic[S]):
    token: int
    state: S
    refused: int
    stop: Literal["end", "dead end"] | None


def _first_viable(ranking: Iterable[int], validator: Validator[S], state: S, end_ids: Container[int]) -> _Choice[S]:
    refused = 0
    for token in ranking:
        if token in end_ids:
            if validator.complete(state):
                return _Choice(token, state, refused, "end")
        else:
            accepted, after = validator.accept_block(state, (token,))
            if accepted:
                return _Choice(token, after, refused, None)
        refused += 1
    return _Choice(-1, state, refused, "dead end")


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens `a` and `b` begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
