"""Who drafts, and how much at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assistant.settings import Settings
from assistant.store import ModelRef
from model import Decoder, companions
from model.engine import FirstOf, LookupDraft, Moving, NoDraft, Onward, moving
from model.engine.contracts import Drafter
from model.engine.graph_drafts import GraphDraft, Repeats
from model.engine.mtp_draft import States

COMPARED = 10
"""Tokens of a repetition that are compared, at most, to find its best place."""

DRAFTED_TOGETHER = 2
"""Requests that share their passes and are drafted for, at most. `viable batch gaps.jsonl -o out.jsonl --max-tokens 64`
gave 26 to 30 tokens/s for 24 gaps in prompts of about 200 tokens, prompts and loading included, one by one (`--at-once
1`); 27 to 38 eight at once with drafts; 36 to 44 eight at once without (three runs of each in turn, two cores of a
shared AMD EPYC, commit 17c59d7)."""


class Boldness(NamedTuple):
    """How much is drafted on a device. A row more of a pass costs 15 % on two cores; on a GPU blocks of 8, 12 and 14
    tokens that draft two take 610, 666 and 701 µs (bf16).

    CPU: found on 80 answers to gaps and beginnings of held-out files (2,874 tokens), by walking through what each way
    of drafting would have proposed along them: 3.1 tokens per pass over 5.2 rows; no way was quicker. A third token
    only where the modules are sure of it gained nothing.

    GPU: a block has eight rows whatever is in them, and the device looks for repetition itself, so that anything may
    stand behind the drafts. Along answers to 45 gaps of held-out files (5,471 tokens, with what the modules draft in
    each place), three drafts and 696 µs a block: 6,160 tokens a second where one token has been written before, 5,620
    behind five; three to eight for it to go before the drafts are all the same. How many drafts and rows: docs/gpu.md,
    *Figures*.

    Since the last module has learned to be run on, a third token on two cores gives 3.19 tokens per pass instead of
    3.01, and 4 and 7 % fewer tokens per second (`viable bench written --no-plain --files 4`, commit 06e10b4; two
    pairs of three, the first of which ran beside other work).
    """

    certain: int
    """Tokens that must have been written before for the text to be drafted from itself rather than by trained
    modules."""
    likely: int
    """Tokens that must have been written before for repetition to go on behind what the modules draft."""
    beyond: int
    """Tokens that the modules draft more than a block has drafts."""
    narrowest: int
    """Tokens that the window begins with and falls back to."""
    widest: int
    """Tokens drafted at a time where text repeats itself; with the one before them, of a GPU's block that drafts."""

    def window(self, block: int) -> Moving:
        """For blocks of so many tokens."""
        narrowest = max(self.narrowest, block - 1) if block > 1 else 0
        return moving(narrowest, max(narrowest, self.widest))


BOLDNESS = {
    "cpu": Boldness(certain=5, likely=3, beyond=0, narrowest=6, widest=15),
    "cuda": Boldness(certain=4, likely=1, beyond=1, narrowest=7, widest=7),
}


def drafters(
    settings: Settings, found: ModelRef, decoder: Decoder, states: Sequence[States], capacity: int
) -> list[Drafter]:
    """One for each text. A long repetition is drafted from itself, other text by trained modules, and without them
    from any repetition. Behind what was drafted any repetition goes on that is not too short. Blocks that draft on a
    GPU look for both themselves.

    Several texts that share their passes give a processor enough to compute: a row more takes as long as the tokens of
    other texts do, so that nothing is drafted for them (DRAFTED_TOGETHER has the figures).
    """
    if settings.block == 1 or settings.draft == "none" or len(states) > DRAFTED_TOGETHER:
        return [NoDraft() for _ in states]
    if settings.draft == "lookup":
        return [LookupDraft() for _ in states]
    bold = BOLDNESS[decoder.device.type]
    longest = settings.block - 1 + bold.beyond
    repeats = Repeats(1 + bold.widest, bold.certain, bold.likely)
    modules = companions.mtp_drafters(decoder, found.path, found.sha256, states, capacity, longest, repeats)
    return [_with_repetition(trained, bold) for trained in modules]


def _with_repetition(trained: Drafter, bold: Boldness) -> Drafter:
    """On a processor modules cost time, and are asked where nobody before them proposes."""
    if isinstance(trained, GraphDraft):
        return FirstOf(trained, LookupDraft())  # each time: a pass that nobody asks about drafts nothing
    return Onward(
        FirstOf(LookupDraft(shortest=bold.certain, longest=COMPARED), trained, LookupDraft()),
        LookupDraft(shortest=bold.likely, longest=COMPARED),
    )
