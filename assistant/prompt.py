"""From the text around a gap to the ids that the model reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from assistant.beside import Surroundings
from model import Tokenizer
from model.tokenizer import FimTokens

RIGHT_SHARE = 0.25
"""Share of a full prompt that is kept for the text right of the gap: what stands left of it says more."""
CHARACTERS, MARGIN = 8, 16
"""Characters of a long text that are encoded for each id that may be kept, and ids that must be there beyond those:
near the place where a text is cut, ids are others than in the whole."""
STRIDE, ROOMY = 16, 512
"""Where text left of the gap is left out, it is so up to a line whose number is a multiple of STRIDE, in prompts with
room for ROOMY ids: while the user types, prompts then go on to begin alike, and are not computed anew."""
STEP = 64
"""Where a part of the text right of the gap is read first, it is a multiple of so many ids, for the same reason."""


class Prompt(NamedTuple):
    """Ids to decode from."""

    ids: tuple[int, ...]
    cut: bool
    """Whether text far from the gap was left out to fit the context."""
    gap: bool
    """Whether it asks, with the model's own marks, for what stands between two texts."""


ALONE = Surroundings()


def build(
    tokenizer: Tokenizer, prefix: str, suffix: str, budget: int, beside: Surroundings = ALONE, share: int = 0
) -> Prompt:
    """At most `budget` ids that ask for what stands between `prefix` and `suffix`; the nearest text is kept.

    Of what other files say `share` ids at most come first, in Qwen's format of repositories (Hui et al. 2024,
    "Qwen2.5-Coder", section 3.2), for models that have marks for it.

    Prefix, suffix, middle in the order of Bavarian et al. 2022 ("PSM"), with the model's own marks; for a model that
    was taught so, suffix, prefix, middle (their "SPM"), where what is written goes on from what was read last. Without
    text to the right, or for a model without such marks, the prompt is the prefix itself.
    """
    fim = tokenizer.fim
    others = _others(tokenizer, beside, min(share, budget // 2), bool(fim and suffix))
    begin = (*tokenizer.begin, *others)
    budget -= len(begin)
    left, right = _near(tokenizer, prefix, budget, -1), _near(tokenizer, suffix, budget, 1)
    if fim is None or not right:
        kept = left[_start(tokenizer, prefix, left, budget) :]
        return Prompt((*begin, *kept) or (_document_start(tokenizer),), len(kept) < len(left), gap=False)
    room = budget - 3
    right_room = min(len(right), max(int(room * RIGHT_SHARE), room - len(left)))
    if tokenizer.suffix_first and STEP < right_room < len(right):
        right_room -= right_room % STEP
    left_kept, right_kept = left[_start(tokenizer, prefix, left, room - right_room) :], right[:right_room]
    cut = len(left_kept) < len(left) or len(right_kept) < len(right)
    if tokenizer.suffix_first:
        return Prompt((*begin, fim.prefix, fim.suffix, *right_kept, fim.middle, *left_kept), cut, gap=True)
    return Prompt((*begin, fim.prefix, *left_kept, fim.suffix, *right_kept, fim.middle), cut, gap=True)


def _others(tokenizer: Tokenizer, beside: Surroundings, room: int, gap: bool) -> tuple[int, ...]:
    """What other files say, as many whole definitions as fit, and the file's own name; nothing if none fits."""
    marks = tokenizer.fim
    if not marks or marks.repo_name is None or marks.file_sep is None or not beside.excerpts:
        return ()
    last = (marks.file_sep, *tokenizer.encode(f"{beside.path}\n"))
    # A prompt that asks for no gap is read without the adapter: it must not begin like one that does.
    first = (marks.repo_name, *tokenizer.encode(f"{beside.project}\n")) if gap else ()
    files = tuple(_files(tokenizer, marks, beside, room - len(first) - len(last)))
    return (*first, *files, *last) if files else ()


def _files(tokenizer: Tokenizer, marks: FimTokens, beside: Surroundings, room: int) -> Iterator[int]:
    for excerpt in beside.excerpts:
        assert marks.file_sep is not None
        head = [marks.file_sep, *tokenizer.encode(f"{excerpt.path}\n")]
        ids: list[int] = []
        for part in excerpt.parts:
            more = tokenizer.encode(f"{part}\n")
            if len(head) + len(ids) + len(more) <= room:
                ids += more
        if ids:
            room -= len(head) + len(ids)
            yield from (*head, *ids)


def _near(tokenizer: Tokenizer, text: str, count: int, side: int) -> list[int]:
    """The ids of `text`; of a long one more than `count`, those of its beginning (`side` 1) or its end (-1)."""
    length = CHARACTERS * (count + MARGIN)
    while length < len(text):
        ids = tokenizer.encode(text[:length] if side > 0 else text[-length:])
        if len(ids) > count + MARGIN:
            return ids
        length *= 2
    return tokenizer.encode(text)


def _start(tokenizer: Tokenizer, prefix: str, left: list[int], room: int) -> int:
    """From which of the last ids of `prefix` on they fit into `room`."""
    first = max(len(left) - room, 0)
    if first == 0 or room < ROOMY:
        return first
    breaks = [(tokenizer.pieces[token] or b"").count(b"\n") for token in left]
    line = prefix.count("\n") - sum(breaks[first:])
    for place in range(first, len(left) - room // 2):
        before, line = line, line + breaks[place]
        if line // STRIDE > before // STRIDE:
            return place + 1
    return first


def _document_start(tokenizer: Tokenizer) -> int:
    """An empty text begins where a document does: behind the token that ends the one before."""
    return tokenizer.specials.get("<|endoftext|>", min(tokenizer.end_ids))
