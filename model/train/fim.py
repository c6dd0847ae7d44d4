"""Learning to fill gaps: a LoRA adapter on the frozen decoder.

The loss is on the middle and its end token. A little of it is on some of the prompt's tokens: a middle is a few dozen
of a thousand tokens that are computed, and what the others teach, which text stands in such files, helps in gaps too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.decoder import Decoder
from model.lora import Adapted, Adapter, Switch, attach
from model.train.corpus import Corpus

SHORTEST = 256  # tokens that rows are padded to at least; above, to the next power of two
POOL = 4096  # samples that are sorted by length together


@dataclass(frozen=True)
class GapPlan:
    """What is shown, and how it is judged."""

    budget: int = 32_768
    """Tokens of a batch, padding included."""
    prompt_share: float = 0.1
    """Of the prompt's tokens, those that are learned from as well, drawn anew for every batch."""
    prompt_weight: float = 0.25
    """What all of them count together; the middles count 1."""
    seed: int = 0


class GapBatch(NamedTuple):
    """ids [B, T]; targets [N]: flat positions (of B·T) whose next id is learned; weights [N]; of the first `middles`,
    which are those of the gaps, they sum to 1."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    middles: int


class GapTask:
    """`switch` turns the adapter that is being learned on and off. marks: ids that stand between the texts."""

    def __init__(
        self, decoder: Decoder, adapter: Adapter, corpus: Corpus, plan: GapPlan, pad_id: int, marks: Iterable[int] = ()
    ) -> None:
        self.decoder, self.plan = decoder, plan
        self.switch: Switch = attach(decoder, adapter, torch.float32)
        self._corpus, self._pad, self._marks = corpus, pad_id, list(marks)
        self._epochs: dict[int, list[npt.NDArray[np.int64]]] = {}
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def compile(self) -> None:
        """Let PyTorch compile the blocks, once for each length of rows."""
        self.decoder.norm(self.decoder.norm.weight)  # a backend that is chosen while compiling would break the graph
        for block in self.decoder.blocks:
            block.compile(dynamic=False)

    def parameters(self) -> Iterable[nn.Parameter]:
        for module in self.decoder.modules():
            if isinstance(module, Adapted):
                yield module.down
                yield module.up

    def batch(self, step: int) -> GapBatch:
        chosen = self._indices(step)
        samples = [self._corpus.gap(int(i)) for i in chosen]
        time = padded(max(len(ids) for ids, _ in samples))
        # As many rows for every batch of a length, the last ones empty where there are fewer: none is compiled anew.
        count = max(self.plan.budget // time, len(samples))
        rows = np.full((count, time), self._pad, dtype=np.int64)
        targets, weights, others = [], [], []
        for row, (ids, middle) in enumerate(samples):
            rows[row, : len(ids)] = ids
            targets.append(np.arange(middle - 1, len(ids) - 1) + row * time)
            # Between counting every token the same and every gap the same.
            weights.append(np.full(len(ids) - middle, (len(ids) - middle) ** -0.5))
            others.append(np.flatnonzero(~np.isin(ids[1:middle], self._marks)) + row * time)
        weight = np.concatenate(weights) / np.concatenate(weights).sum()
        some = self._some(np.concatenate(others), step)
        weight = np.r_[weight, np.full(len(some), self.plan.prompt_weight / max(len(some), 1))]
        flat = np.concatenate([*targets, some])
        shown, places, counts = (torch.from_numpy(part) for part in (rows, flat, weight.astype(np.float32)))
        return GapBatch(shown, places, counts, sum(map(len, targets)))

    def _some(self, places: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.int64]:
        """The share of `places` that is learned from in this step, in order."""
        count = round(len(places) * self.plan.prompt_share) if self.plan.prompt_weight else 0
        return np.sort(np.random.default_rng([self.plan.seed, step, 1]).choice(places, count, replace=False))

    def _indices(self, step: int) -> npt.NDArray[np.int64]:
        epoch = 0
        while True:
            if epoch not in self._epochs:
                random = np.random.default_rng([self.plan.seed, epoch])
                self._epochs = {epoch: list(batches(self._corpus.gaps[:, 1], self.plan.budget, random))}
            if step < len(self._epochs[epoch]):
                return self._epochs[epoch][step]
            step -= len(self._epochs[epoch])
            epoch += 1

    def tokens(self, batch: GapBatch) -> int:
        return batch.ids.numel()

    def loss(self, batch: GapBatch, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        device = self.decoder.device
        ids, targets, weights = (x.to(device, non_blocking=True) for x in batch[:3])
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = self.decoder.hidden(ids).flatten(0, 1)[targets]
            logits = self.decoder.head(hidden).float()
        wanted = ids.flatten()[targets + 1]
        losses = F.cross_entropy(logits, wanted, reduction="none")
        middles, others = losses.detach().split([batch.middles, len(losses) - batch.middles])
        right = (logits[: batch.middles].argmax(-1) == wanted[: batch.middles]).float().mean()
        found = {"per_token": middles.mean(), "right": right}
        return (losses * weights).sum(), found | ({"prompt": others.mean()} if len(others) else {})

    def weights(self, progress: float) -> AbstractContextManager[None]:
        return nullcontext()

    def measure(self) -> Mapping[str, float]:
        return {}


def padded(length: int) -> int:
    """Tokens of a row for `length` of them: few, so that few are compiled for; a tenth of a batch is padding."""
    return max(SHORTEST, 1 << (length - 1).bit_length())


def batches(
    lengths: npt.NDArray[np.int64], budget: int, random: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Every sample once, in batches of about the same length of at most `budget` padded tokens, in random order."""
    order = random.permutation(len(lengths))
    found = []
    for start in range(0, len(order), POOL):
        pool = order[start : start + POOL]
        pool = pool[np.argsort(-lengths[pool], kind="stable")]
        while len(pool):
            count = max(budget // padded(int(lengths[pool[0]])), 1)
            found.append(pool[:count])
            pool = pool[count:]
    for i in random.permutation(len(found)):
        yield found[i]
