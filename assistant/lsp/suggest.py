"""From a request to suggestions: what is wanted, where it comes from, whether it still fits."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from assistant.beside import Surroundings
from assistant.document import Gap, with_line_end
from assistant.lsp.cache import Cache
from assistant.lsp.documents import Document, Place
from assistant.lsp.options import Options
from assistant.lsp.trigger import Pace, Turns, overtaken, quiet
from assistant.lsp.worker import Wanted, Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where a suggestion goes: the text between two places of one line is replaced."""

    start: Place
    end: Place
    lead: str
    """What the suggestion has to begin with: the text of an entry selected in the editor's own list."""
    gap: Gap
    """The file around the suggestion's part after `lead`."""


class Suggestion(NamedTuple):
    """A text to insert, in the file's own line ends; the file parses after it."""

    text: str
    target: Target


class Suggester:
    """Answers requests for one client."""

    def __init__(self, worker: Worker, around: Callable[[Document], Callable[[], Surroundings]]) -> None:
        """`around` gives what says what other files tell."""
        self.options = Options()
        self.cache = Cache()
        self.counts: Counter[str] = Counter()
        """Requests by what became of them."""
        self._worker = worker
        self._around = around
        worker.on_texts = self._keep
        self._pace = Pace()
        self._turns = Turns()

    def edited(self) -> None:
        """A file was changed, just now."""
        self._pace.edited(time.monotonic())

    async def suggest(
        self, document: Document, target: Target, automatic: bool, partial: Callable[[str], None] | None = None
    ) -> list[Suggestion]:
        """Suggestions for a place, best first; none where it is better to be quiet."""
        self.counts["requests"] += 1
        options, gap, version = self.options, target.gap, document.version
        over = self._turns.take((document.uri, version, target.start, target.lead))
        if reason := self._declined(document, gap, automatic):
            self.counts[reason] += 1
            self._worker.give_up()
            return []
        wanted = self._wanted(document, gap, 1 if automatic else options.candidates)
        if texts := self.cache.get(document.uri, gap, wanted.candidates):
            self.counts["cached"] += 1
            return self._shown(texts, target)
        if not self._worker.find(wanted):
            self._worker.give_up()
            if automatic and await overtaken(over, self._pause(gap)):
                self.counts["superseded"] += 1
                return []
            if document.version != version:
                self.counts["outdated"] += 1
                return []
        texts = await self._worker.fill(wanted, partial)
        if document.version != version:
            self.counts["outdated"] += 1
            return []
        return self._shown(texts, target)

    def prefetch(self, document: Document, place: Place) -> None:
        """Compute what a request at `place` will want, unless there is other work."""
        wanted = self._wanted(document, document.gap(place), 1)
        if not self._worker.idle or self.cache.get(wanted.uri, wanted.gap):
            return
        self.counts["prefetched"] += 1
        self._worker.submit(wanted)

    def _wanted(self, document: Document, gap: Gap, candidates: int) -> Wanted:
        o = self.options
        return Wanted(document.uri, gap, candidates, o.max_tokens, o.max_ms, self._around(document))

    def _declined(self, document: Document, gap: Gap, automatic: bool) -> str | None:
        if not self.options.serves(document.uri, document.language):
            return "not served"
        if automatic and quiet(gap, self.options.max_right):
            return "quiet"
        if "\0" in gap.left or "\0" in gap.right or not _encodable(gap):
            log.warning("%s holds characters that no Python source may; nothing is suggested in it", document.uri)
            return "not served"
        return None

    def _pause(self, gap: Gap) -> float:
        fixed = self.options.debounce_ms
        return self._pace.pause(gap, time.monotonic()) if fixed is None else fixed / 1000

    def _keep(self, wanted: Wanted, texts: tuple[str, ...]) -> None:
        self.cache.put(wanted.uri, wanted.gap, texts, wanted.candidates)

    def _shown(self, texts: tuple[str, ...], target: Target) -> list[Suggestion]:
        self.counts["shown" if texts else "empty"] += 1
        return [Suggestion(target.lead + with_line_end(text, target.gap.line_end), target) for text in texts]


def _encodable(gap: Gap) -> bool:
    """Whether the text is free of lone surrogates, which JSON can carry and no file can."""
    try:
        return (gap.left.isascii() and gap.right.isascii()) or bool(gap.left.encode() + gap.right.encode())
    except UnicodeEncodeError:
        return False
