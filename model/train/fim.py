"""Learning to fill gaps: a LoRA adapter on the frozen decoder, with a loss on the middle and its end token alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.decoder import Decoder
from model.lora import Adapted, Adapter, Switch, attach
from model.train.corpus import Corpus

MULTIPLE = 64  # rows are padded to such a length
POOL = 4096  # samples that are sorted by length together


class GapBatch(NamedTuple):
    """ids [B, T]; targets [N]: flat positions (of B·T) whose next id is learned; weights [N], summing to 1."""

    ids: Tensor
    targets: Tensor
    weights: Tensor


class GapTask:
    """`switch` turns the adapter that is being learned on and off."""

    def __init__(
        self, decoder: Decoder, adapter: Adapter, corpus: Corpus, *, budget: int, seed: int, pad_id: int
    ) -> None:
        self.decoder = decoder
        self.switch: Switch = attach(decoder, adapter, torch.float32)
        self._corpus, self._budget, self._seed, self._pad = corpus, budget, seed, pad_id
        self._epochs: dict[int, list[npt.NDArray[np.int64]]] = {}
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def parameters(self) -> Iterable[nn.Parameter]:
        for module in self.decoder.modules():
            if isinstance(module, Adapted):
                yield module.down
                yield module.up

    def batch(self, step: int) -> GapBatch:
        chosen = self._indices(step)
        samples = [self._corpus.gap(int(i)) for i in chosen]
        time = -(-max(len(ids) for ids, _ in samples) // MULTIPLE) * MULTIPLE
        rows = np.full((len(samples), time), self._pad, dtype=np.int64)
        targets, weights = [], []
        for row, (ids, middle) in enumerate(samples):
            rows[row, : len(ids)] = ids
            targets.append(np.arange(middle - 1, len(ids) - 1) + row * time)
            # Between counting every token the same and every gap the same.
            weights.append(np.full(len(ids) - middle, (len(ids) - middle) ** -0.5))
        weight = torch.from_numpy(np.concatenate(weights)).float()
        return GapBatch(torch.from_numpy(rows), torch.from_numpy(np.concatenate(targets)), weight / weight.sum())

    def _indices(self, step: int) -> npt.NDArray[np.int64]:
        epoch = 0
        while True:
            if epoch not in self._epochs:
                random = np.random.default_rng([self._seed, epoch])
                self._epochs = {epoch: list(batches(self._corpus.gaps[:, 1], self._budget, random))}
            if step < len(self._epochs[epoch]):
                return self._epochs[epoch][step]
            step -= len(self._epochs[epoch])
            epoch += 1

    def tokens(self, batch: GapBatch) -> int:
        return batch.ids.numel()

    def loss(self, batch: GapBatch, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        device = self.decoder.device
        ids, targets, weights = (x.to(device, non_blocking=True) for x in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden = self.decoder.hidden(ids).flatten(0, 1)[targets]
            logits = self.decoder.head(hidden).float()
        wanted = ids.flatten()[targets + 1]
        losses = F.cross_entropy(logits, wanted, reduction="none")
        right = (logits.argmax(-1) == wanted).float().mean()
        return (losses * weights).sum(), {"per_token": losses.detach().mean(), "right": right}

    def weights(self, progress: float) -> AbstractContextManager[None]:
        return nullcontext()

    def measure(self) -> Mapping[str, float]:
        return {}


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
            padded = -(-int(lengths[pool[0]]) // MULTIPLE) * MULTIPLE
            count = max(budget // padded, 1)
            found.append(pool[:count])
            pool = pool[count:]
    for i in random.permutation(len(found)):
        yield found[i]
