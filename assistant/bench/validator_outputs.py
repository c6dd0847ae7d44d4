"""What a model writes behind real code when nothing holds it: texts to compare validators on."""

from __future__ import annotations

import random
from collections.abc import Sequence

from assistant.bench.corpus import Output, Source

__all__ = ["written"]

TOKENS = 40
CONTEXT = 512
"""Tokens of prompt and answer: what stands further left is not read, which makes mistakes more frequent."""
TEMPERATURE = 0.8


def written(sources: Sequence[Source], count: int, seed: int) -> list[Output]:
    """`count` samples of the small model that comes with Viable, behind random places in the files."""
    if not count:
        return []
    from assistant.session import open_session
    from assistant.settings import Settings
    from assistant.store.shipped import SMALL

    rng = random.Random(seed)
    settings = Settings(model=SMALL, device="cpu", context=CONTEXT, max_tokens=TOKENS, temperature=TEMPERATURE)
    session = open_session(settings)
    found = []
    for number in range(count):
        text = rng.choice(sources).text
        left = text[: rng.randrange(len(text))]
        found.append(Output(left, session.plain(left, lambda _: False, seed + number).text))
    return found
