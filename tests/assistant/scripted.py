"""A session whose model writes what a test says, byte by byte, with the real validator and the real drafters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from assistant.document import Gap
from assistant.prompt import build
from assistant.session import Session
from assistant.settings import Settings
from model.engine import Drafter, Interrupt, LookupDraft, Order, never
from model.lora import Switch
from model.tokenizer import ByteTokenizer
from validators import PythonValidator

TOKENIZER = ByteTokenizer()
END = min(TOKENIZER.end_ids)
VALIDATOR = PythonValidator()


class ScriptedScorer:
    """Ranks first what the script says, then the end, then all other ids."""

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self.piece = 256
        self.ids: list[int] = []
        self.passes = 0
        self.begin = 0
        self.script: tuple[int, ...] = ()

    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Iterable[int]]:
        self.passes += 1
        first = len(self.ids) + 1
        self.ids += ids
        return [self._ranking(first + row - self.begin) for row in range(len(ids))]

    def truncate(self, length: int) -> None:
        del self.ids[length:]

    def _ranking(self, place: int) -> Iterator[int]:
        wanted = (*self.script[max(place, 0) :][:1], END)
        yield from wanted
        yield from (token for token in range(TOKENIZER.vocab_size) if token not in wanted)


def scripted(
    gap: Gap, script: str, *, drafter: Drafter | None = None, adapter: Switch | None = None, **settings: object
) -> Session:
    """A session that writes `script` into `gap` and then ends."""
    found = Settings(context=4096).replaced(**settings)
    scorer = ScriptedScorer()
    scorer.begin = len(build(TOKENIZER, gap.prefix, gap.suffix, scorer.capacity - found.max_tokens).ids)
    scorer.script = tuple(script.encode())
    drafts = drafter or LookupDraft(shortest=1)
    return Session(found, "scripted", "cpu", scorer, TOKENIZER, VALIDATOR, drafts, adapter or Switch())
