"""From the text around a gap to the ids that the model reads."""

from __future__ import annotations

from typing import NamedTuple

from model import Tokenizer

RIGHT_SHARE = 0.25
"""Share of a full prompt that is kept for the text right of the gap: what stands left of it says more."""


class Prompt(NamedTuple):
    """Ids to decode from."""

    ids: tuple[int, ...]
    cut: bool
    """Whether text far from the gap was left out to fit the context."""
    gap: bool
    """Whether it asks, with the model's own marks, for what stands between two texts."""


def build(tokenizer: Tokenizer, prefix: str, suffix: str, budget: int) -> Prompt:
    """At most `budget` ids that ask for what stands between `prefix` and `suffix`; the nearest text is kept.

    Prefix, suffix, middle in the order of Bavarian et al. 2022 ("PSM"), with the model's own marks. Without text to the
    right, or for a model without such marks, the prompt is the prefix itself.
    """
    fim, begin = tokenizer.fim, tokenizer.begin
    budget -= len(begin)
    left, right = tokenizer.encode(prefix), tokenizer.encode(suffix)
    if fim is None or not right:
        kept = left[-budget:]
        return Prompt((*begin, *kept) or (_document_start(tokenizer),), len(kept) < len(left), gap=False)
    room = budget - 3
    right_room = min(len(right), max(int(room * RIGHT_SHARE), room - len(left)))
    left_kept, right_kept = left[max(len(left) - (room - right_room), 0) :], right[:right_room]
    cut = len(left_kept) < len(left) or len(right_kept) < len(right)
    return Prompt((*begin, fim.prefix, *left_kept, fim.suffix, *right_kept, fim.middle), cut, gap=True)


def _document_start(tokenizer: Tokenizer) -> int:
    """An empty text begins where a document does: behind the token that ends the one before."""
    return tokenizer.specials.get("<|endoftext|>", min(tokenizer.end_ids))
