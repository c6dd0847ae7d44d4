"""A decoder on a GPU as a `Scorer`: one recorded pass a block, and a handful of ids for the host.

Letters: R rows of a pass, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

import kernels
from model.attention import attention
from model.cache import Cache
from model.decoder import Decoder
from model.engine.contracts import Interrupt, Interrupted, never
from model.engine.graph_ahead import BlocksAhead, SingleTokens
from model.engine.graph_drafts import LEAST, NO_REPEATS, DraftedBlocks, GraphDraft, Predicted, Repeats
from model.engine.graph_follow import Following
from model.engine.graph_rows import Asked, BlockRows, Found, PromptRows, Ranking
from model.engine.order import Greedy, Order
from model.errors import ModelUsageError
from model.gpu import BlockPass, Prefill, Recorded
from model.gpu.drafts import BACK, DraftPass, unsupported_drafts
from model.gpu.follow import Follow
from model.gpu.prefill import seen_from
from model.gpu.record import Pool
from model.mtp_rows import MTPRows

log = logging.getLogger(__name__)

WIDTHS = (1, 2, 3, 4, 8, 16, 32)
"""Rows of a recorded block: a pass takes the least that holds its tokens."""

PREFILLS = (64, 128, 256, 512, 1024, 2048)
"""Tokens of a recorded prefill."""

FIRST_IDS = 8
"""Ids of a row that come to the host: the best is nearly always viable, so the vocabulary is rarely sorted."""


class GraphScorer:
    """Scores with one cache of `capacity` positions, which is kept between prompts.

    Blocks of up to 32 tokens go through the fused kernels; what a row gives does not depend on the rows beside it.
    Longer pieces of a prompt go through PyTorch's own. Rankings can be read until the next pass.
    `passes` counts the passes made so far, prefill included; `replays` those that were a block.
    """

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        if capacity > decoder.config.context_length:
            raise ModelUsageError(
                f"a cache of {capacity} positions; the model was made for {decoder.config.context_length}"
            )
        self.capacity = capacity
        self.piece = PREFILLS[-1]
        self.passes = 0
        self.replays = 0
        self._ids: list[int] = []
        self._device = decoder.device
        kind = attention(decoder.config.attention)
        declared = [kind.rows(decoder.config, layer) for layer in range(decoder.config.layers)]
        # The row behind the last takes what fills up a recorded prefill.
        self._cache = Cache(declared, capacity + 1, 1, decoder.rows, decoder.device)
        for layer in self._cache.layers:
            for rows in layer.rows:
                rows.zero_()  # what is masked is multiplied with zero, which a NaN would survive
        self._block = BlockPass(decoder, self._cache)
        self._prefill = Prefill(decoder, self._cache, self._block.rotation)
        on_gpu = self._device.type == "cuda"
        # The host writes `input`, which a recording copies, and reads `best`, which the device writes.
        self._input = torch.zeros(1 + max(PREFILLS), dtype=torch.int32, pin_memory=on_gpu)
        self._given = self._input.numpy()
        self._place = torch.zeros_like(self._input, device=self._device)
        self._best = torch.zeros(WIDTHS[-1], FIRST_IDS, dtype=torch.int32, pin_memory=on_gpu)
        # Residual streams of all positions, for drafters; the last row, again, takes what only fills up.
        self._streams = torch.zeros(capacity + 1, decoder.config.width, dtype=torch.float32, device=self._device)
        self._done = torch.cuda.Event() if on_gpu else None
        self._pool = Pool(self._device) if on_gpu else None
        self._drafted: DraftedBlocks | None = None
        self._single: SingleTokens | None = None
        self._draft_wanted = False
        self._late = False
        self._blocks: dict[int, Recorded[Found]] = {}
        self._prefills: dict[tuple[int, int | None], Callable[[], Tensor]] = {}

    @property
    def ids(self) -> Sequence[int]:
        return self._ids

    @property
    def hidden(self) -> Tensor:
        """fp32 [capacity, K] on the device: the state of every position that `ids` names, before the final norm."""
        return self._streams[: self.capacity]

    @torch.inference_mode()
    def drafter(self, rows: MTPRows, longest: int = 0, repeats: Repeats = NO_REPEATS) -> GraphDraft | None:
        """Let blocks draft by multi-token modules from now on; None where the modules cannot be computed here.

        Each drafts `longest` tokens, but one for each module at least, and is filled up as `repeats` says.
        Before the first pass.
        """
        if unsupported_drafts(rows):
            return None
        try:
            drafts = DraftPass(rows, self._block, self.capacity, longest, repeats.certain, repeats.likely)
            tokens = max(longest + 1, LEAST, repeats.tokens)
            follow = Follow(rows, self._block.rotation, self._streams, drafts.states)
            following = Following(
                follow, drafts.history, PREFILLS, self.capacity, self._prefill.recordable, self._device, self._pool
            )
            drafted = DraftedBlocks(drafts, following, self._compute_rows, self._streams, FIRST_IDS, self._pool, tokens)
            drafted.warm(BACK)
        except torch.OutOfMemoryError:
            log.warning("the GPU's memory is too full to draft with the block; drafts are computed module by module")
            return None
        self._drafted = drafted
        return GraphDraft(self)

    def want_draft(self) -> None:
        """The next block is to draft the one behind it."""
        self._draft_wanted = True

    def predicted(self) -> Predicted | None:
        """See `DraftedBlocks.next_block`."""
        return self._drafted.next_block() if self._drafted else None

    def block_time(self) -> float:
        """Microseconds that a block which drafts takes on the GPU, one after the other; 0 where none does."""
        self.truncate(0)
        return self._drafted.time() if self._drafted else 0.0

    @property
    def hits(self) -> int:
        """Passes that were under way already when they were asked for."""
        return sum(each.hits for each in self._each_ahead())

    @torch.inference_mode()
    def warm(self, widths: Sequence[int] = WIDTHS) -> None:
        """Record the blocks that will be needed, so that no request waits for it. Before the first pass."""
        if self._ids:
            raise ModelUsageError("warm() is called before the first pass")
        for width in widths:
            self._run_block([0] * min(width, self.capacity))
        self._wait()
        self._single = SingleTokens(self._compute_one, FIRST_IDS, self._device, self._pool)
        self._single.warm()

    @torch.inference_mode()
    def extend(self, ids: Sequence[int], order: Order, interrupt: Interrupt = never) -> Sequence[Ranking]:
        first = len(self._ids)
        if not ids or first + len(ids) > self.capacity:
            raise ModelUsageError(f"{len(ids)} tokens after {first} in a cache of {self.capacity}")
        if stop := interrupt():
            raise Interrupted(stop)
        rankings: list[Ranking] = []
        lost = self._lost()
        if lost:
            ids = [*lost, *ids]
        for at in range(0, len(ids), PREFILLS[-1]):
            rankings += self._pass(ids[at : at + PREFILLS[-1]], order)
        return rankings[len(lost) :]

    def _lost(self) -> list[int]:
        """Tokens whose rows a block overwrote that nobody asked for; they are taken out of `ids`."""
        for each in self._each_ahead():
            stale = each.stale()
            if stale is not None and stale < len(self._ids):
                lost = self._ids[stale:]
                del self._ids[stale:]
                return lost
        return []

    def _each_ahead(self) -> list[BlocksAhead]:
        """What may have a block under way, one of them at a time."""
        return [each for each in (self._drafted, self._single) if each]

    def truncate(self, length: int) -> None:
        if not 0 <= length <= len(self._ids):
            raise ModelUsageError(f"cannot truncate a cache of {len(self._ids)} positions to {length}")
        del self._ids[length:]

    def _pass(self, ids: Sequence[int], order: Order) -> list[Ranking]:
        first = len(self._ids)
        asked = Asked(order, range(first + 1, first + len(ids) + 1))
        wanted, self._draft_wanted = self._draft_wanted, False
        rows: BlockRows | PromptRows
        if len(ids) > WIDTHS[-1]:
            self._leave_others(None)
            rows = PromptRows(self, self._run_prefill(ids), self._block.logits, asked)
        elif self._drafted and self._drafts(wanted, first, ids):
            self._leave_others(self._drafted)
            # A block that follows may begin behind this one, and its drafts behind that.
            room = first + 3 * self._drafted.tokens <= self.capacity
            go_on = wanted and isinstance(order, Greedy) and room
            rows = self._run_ahead(self._drafted, ids, go_on, asked)
        elif self._single and len(ids) == 1 and isinstance(order, Greedy):
            self._leave_others(self._single)
            # Where the host took what was best behind the last token, it is likely to do so again.
            go_on = self._single.is_predicted(first, ids) and first + 2 <= self.capacity
            rows = self._run_ahead(self._single, ids, go_on, asked)
        else:
            self._leave_others(None)
            rows = BlockRows(self, self._run_block(ids), self._wait, asked)
        self._ids += ids
        self.passes += 1
        rows.number = self.passes
        return [Ranking(rows, row) for row in range(len(ids))]

    def _drafts(self, wanted: bool, first: int, ids: Sequence[int]) -> bool:
        """Is a block one that drafts: wanted and possible, or under way already?

        Where the modules have much to catch up with, as behind a prompt, one block goes before: the first token of a
        suggestion does not wait for them.
        """
        assert self._drafted is not None
        if self._drafted.is_under_way(first, ids):
            return True
        if not wanted or not self._drafted.takes(first, len(ids)):
            return False
        if self._drafted.has_followed(self._ids):
            return True
        now, self._late = self._late, not self._late
        return now

    def _run_ahead(self, blocks: BlocksAhead, ids: Sequence[int], go_on: bool, asked: Asked) -> BlockRows:
        flight = blocks.run(self._ids, ids, go_on)
        self.replays += 1
        found = Found(flight.results.hidden, flight.results.logits, flight.results.ids)
        return BlockRows(self, found, flight.wait, asked)

    def _leave_others(self, blocks: BlocksAhead | None) -> None:
        """What is under way elsewhere is not what was asked for."""
        for each in self._each_ahead():
            if each is not blocks:
                each.leave()

    def _run_block(self, ids: Sequence[int]) -> Found:
        width = self._width(len(ids), WIDTHS)
        if width not in self._blocks:
            self._blocks[width] = Recorded(lambda: self._compute_block(width), self._pool)
        self._give(ids, width)
        found = self._blocks[width]()
        self.replays += 1
        if self._done:
            self._done.record()
        return found

    def _run_prefill(self, ids: Sequence[int]) -> Tensor:
        time = self._width(len(ids), PREFILLS)
        key = (time, seen_from(len(self._ids), len(ids), self.capacity))
        if key not in self._prefills:
            compute = partial(self._compute_prefill, *key)
            self._prefills[key] = Recorded(compute, self._pool) if self._prefill.recordable else compute
        self._give(ids, time)
        hidden = self._prefills[key]()
        if self._done:
            self._done.record()
        return hidden

    def _width(self, rows: int, widths: Sequence[int]) -> int:
        """How many rows are computed: nothing is recorded on a CPU, and nothing needs filling up."""
        if self._device.type == "cpu":
            return rows
        return next(width for width in widths if width >= rows)

    def _give(self, ids: Sequence[int], width: int) -> None:
        """Hand the next pass its start and its tokens, filled up to `width`."""
        self._wait()  # the pass before may still read them
        self._given[0] = len(self._ids)
        self._given[1 : 1 + len(ids)] = ids
        self._given[1 + len(ids) : 1 + width] = 0

    def _take(self, width: int) -> tuple[Tensor, Tensor]:
        """What was given, on the device: start [1] and ids [width]."""
        self._place[: 1 + width].copy_(self._input[: 1 + width], non_blocking=True)
        return self._place[:1], self._place[1 : 1 + width]

    def _compute_block(self, width: int) -> Found:
        start, ids = self._take(width)
        said = self._best[:width]
        hidden, logits, _ = self._rows_of(start, ids, said)
        return Found(hidden, logits, said)

    def _compute_rows(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """int32 [2 + R], start, count, tokens -> hidden, logits, best ids."""
        return self._rows_of(block[:1], block[2:])

    def _compute_one(self, block: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """int32 [3], start, count, token, which becomes the next; the host reads best ids and that block in `said`."""
        hidden, logits, _ = self._rows_of(block[:1], block[2:], said, block)
        return hidden, logits

    def _rows_of(
        self, start: Tensor, ids: Tensor, said: Tensor | None = None, block: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self._block.hidden(ids, start)
        found = self._block.scores(hidden)
        told = None if said is None else said.view(-1)
        return hidden, found.logits, kernels.rank(found, FIRST_IDS, hidden, start, self._streams, told, block)

    def _compute_prefill(self, time: int, seen: int | None) -> Tensor:
        start, ids = self._take(time)
        hidden = self._prefill.hidden(ids, start, seen)
        kernels.keep(hidden, start, self._streams)
        return hidden

    def _wait(self) -> None:
        if self._done:
            self._done.synchronize()
