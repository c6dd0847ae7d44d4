"""Several texts over one decoder: what they ask to be scored meanwhile is computed in one pass over the weights.

On a CPU a pass of few rows takes as long as its weights take to be read, and every text reads them all. Here each text
has a scorer of its own, and `extend` only notes what is to be scored. The first who looks at a row has the pass made,
and what other texts have noted by then is computed with it. Who is scored beside whom changes no bit: the rows of all
texts together are at most `ROWS_APART`, attention goes text by text, and what is longer has a pass to itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.decoder import Decoder
from model.engine.contracts import Interrupt, Interrupted, never
from model.engine.order import Order
from model.engine.pace import STEADY, Pace, Steady
from model.engine.scorer import HEAD_ROWS, PIECES, Ranking
from model.layers import ROWS_APART
from model.lora import Switch


class SharedPasses:
    """The passes that several texts share, and who waits for one.

    `passes` counts those made so far, prefill included.
    """

    def __init__(self, decoder: Decoder, adapter: Switch, pace: Pace | Steady = STEADY) -> None:
        """adapter: of the decoder; each text says whether it is to be on. pace: how many threads a pass takes."""
        self.decoder = decoder
        self.passes = 0
        self.adapter = adapter
        self._pace = pace
        self._waiting: dict[SharedScorer, _Part] = {}

    def note(self, part: _Part) -> None:
        """Let a part wait for the next pass that it fits."""
        self._waiting[part.scorer] = part

    def drop(self, scorer: SharedScorer) -> None:
        """Forget what was noted for a scorer, if anything was."""
        self._waiting.pop(scorer, None)

    @torch.inference_mode()
    def make(self, scorer: SharedScorer) -> None:
        """If `scorer` waits for a pass, make it, with as many of the other parts as fit.

        What the pass raises, `Interrupted` among it, drops the part of `scorer`; the others go on waiting.
        """
        if scorer not in self._waiting:
            return
        own = self._waiting[scorer]
        parts = self._with(own)

        def look_up() -> None:
            if stop := own.interrupt():
                raise Interrupted(stop)

        try:
            with self.adapter.set(own.adapted), self._pace.measured():
                found = self.decoder.together([(part.ids, part.scorer.cache) for part in parts], look_up)
        except BaseException:
            self.drop(scorer)
            raise
        states = [state[0] for state in found]
        logits = _Logits(self.decoder, states)
        for place, (part, state) in enumerate(zip(parts, states, strict=True)):
            self.drop(part.scorer)
            part.scored(logits, place)
            part.scorer.take(part.ids[0].tolist(), state)
        self.passes += 1

    def _with(self, own: _Part) -> list[_Part]:
        """Who shares the pass of a part: those of the same weights, first come first served, while rows are left."""
        parts, rows = [own], own.ids.shape[1]
        for part in self._waiting.values():
            more = part.ids.shape[1]
            if part is not own and part.adapted == own.adapted and rows + more <= ROWS_APART:
                parts.append(part)
                rows += more
        return parts


class SharedScorer:
    """The scorer of one text; see `Scorer`. Whatever is asked of it, the pass that it waits for is made first."""

    def __init__(self, passes: SharedPasses, capacity: int) -> None:
        decoder = passes.decoder
        self.cache = decoder.new_cache(capacity)
        self.capacity = capacity
        self.piece = PIECES.get(decoder.device.type, 256)
        self.adapter = passes.adapter.beside()
        """Whether the adapter is on for this text."""
        self._passes = passes
        self._ids: list[int] = []
        # Most texts are short: memory that is never written is never taken.
        self._hidden = torch.empty(capacity, decoder.config.width, dtype=decoder.dtype, device=decoder.device)

    @property
    def ids(self) -> Sequence[int]:
        self._passes.make(self)
        return self._ids

    @property
    def hidden(self) -> Tensor:
        """[capacity, K], the decoder's states before its final norm; those of the cached positions count."""
        self._passes.make(self)
        return self._hidden

    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Ranking]:
        """See `Scorer`. `Interrupted` is raised where a row is read, or `ids` or `hidden`."""
        first = len(self.ids)
        part = _Part(self, torch.tensor([ids], device=self.cache.layers[0].rows[0].device), interrupt)
        self._passes.note(part)
        return [Ranking(part, row, order, first + row + 1) for row in range(len(ids))]

    def truncate(self, length: int) -> None:
        if length > len(self._ids):
            self._passes.make(self)
        self._passes.drop(self)
        self.cache.truncate(length)
        del self._ids[length:]

    def take(self, ids: list[int], states: Tensor) -> None:
        """What a pass gave: `states` [T, K] of the T `ids`."""
        first = len(self._ids)
        self._hidden[first : first + len(ids)] = states
        self._ids += ids

    def settle(self) -> None:
        """Have the pass made, if one is waited for."""
        self._passes.make(self)


class _Part:
    """What one text wants to have scored: T ids [1, T]."""

    def __init__(self, scorer: SharedScorer, ids: Tensor, interrupt: Interrupt) -> None:
        self.scorer = scorer
        self.ids = ids
        self.interrupt = interrupt
        self.adapted = scorer.adapter.on
        self._scored: list[tuple[_Logits, int]] = []

    def scored(self, logits: _Logits, place: int) -> None:
        """This was computed, as the text at `place` of a pass."""
        self._scored.append((logits, place))

    def __getitem__(self, row: int) -> Tensor:
        if not self._scored:
            self.scorer.settle()
        if not self._scored:
            raise RuntimeError("the pass of this row was broken off")
        logits, place = self._scored[0]
        return logits.row(place, row)


class _Logits:
    """The logits of one pass, computed when one is read: the first rows of all texts together, others text by text."""

    def __init__(self, decoder: Decoder, states: Sequence[Tensor]) -> None:
        """states: [T_i, K] of each text."""
        self._decoder = decoder
        self._states = states
        self._found: dict[tuple[int, int], Tensor] = {}

    def row(self, text: int, row: int) -> Tensor:
        """[V]"""
        first = row - row % HEAD_ROWS
        if (text, first) not in self._found:
            texts = [text] if first else range(len(self._states))
            rows = [self._states[text][first : first + HEAD_ROWS] for text in texts]
            logits = self._decoder.head(torch.cat(rows)).split([len(some) for some in rows])
            self._found |= {(text, first): some for text, some in zip(texts, logits, strict=True)}
        return self._found[text, first][row - first]
