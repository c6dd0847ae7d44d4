"""Learning to draft: MTP modules on the frozen decoder, which say what the decoder itself will say further on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.decoder import Decoder
from model.lora import Switch
from model.mtp import MTP, is_matrix, rounded
from model.train.corpus import Corpus, Ids
from model.train.mtp_loss import accepted, compensated, soft_cross_entropy, tokens_per_pass

HELD_OUT_ROWS = 64


@dataclass(frozen=True)
class DraftPlan:
    """What is shown to the modules, and how they are judged."""

    rows: int = 16
    time: int = 1024
    gap_share: float = 0.5
    """Of the steps, those that show gap-filling prompts, with the adapter on; the others show plain text."""
    middle_weight: float = 4.0
    """A token that is to be written in a gap counts as much as so many others."""
    alpha: tuple[float, ...] = (1.0, 1.0)
    """Weights of the depths' losses. Behind the last module's the last module learns to be run on."""
    beta: float = 0.0
    round_from: float = 0.5
    """From this share of the steps on, the matrices are used as the file will keep them."""
    seed: int = 0


class DraftBatch(NamedTuple):
    """ids [B, T]; weights [B, T + 1]: how much predicting the token at each place counts; whether these are gaps."""

    ids: Tensor
    weights: Tensor
    gaps: bool


class DraftTask:
    """The decoder's weights stay as they are. `switch` turns the gap-filling adapter on and off, if there is one."""

    def __init__(
        self, decoder: Decoder, mtp: MTP, corpus: Corpus, plan: DraftPlan, switch: Switch | None, pad_id: int
    ) -> None:
        self.decoder, self.mtp, self.plan = decoder, mtp, plan
        self._corpus, self._pad = corpus, pad_id
        self._switch = switch or Switch()
        self._head = mtp.head_rows(decoder)
        self._matrices = [p for name, p in mtp.named_parameters() if is_matrix(name, p)]
        lengths = corpus.gaps[:, 1]
        fitting = np.flatnonzero(lengths <= plan.time)
        long = np.flatnonzero((lengths <= plan.time) & (lengths > 0.7 * plan.time))
        self._gaps = long if len(long) >= plan.rows else fitting
        self._gap_share = plan.gap_share if switch and len(self._gaps) else 0.0
        self.cross_entropy = soft_cross_entropy

    def compile(self) -> None:
        """Let PyTorch compile the blocks and the loss."""
        # One for each depth's length, with gradients and without, and for the decoder with the adapter and without.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(self.plan.alpha))
        self.decoder.norm(self.decoder.norm.weight)  # a backend that is chosen while compiling would break the graph
        for block in self.decoder.blocks:
            block.compile(dynamic=False)
        for depth in self.mtp.depths:
            depth.get_submodule("block").compile(dynamic=False)
        self.cross_entropy = torch.compile(soft_cross_entropy, dynamic=False)

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.mtp.parameters()

    def batch(self, step: int) -> DraftBatch:
        random = np.random.default_rng([self.plan.seed, step])
        # Spread evenly: a step shows gaps where their number so far would fall behind their share.
        gaps = int((step + 1) * self._gap_share) > int(step * self._gap_share)
        return self._gap_batch(random) if gaps else self._plain_batch(self._corpus.documents, random, self.plan.rows)

    def _plain_batch(self, ids: Ids, random: np.random.Generator, count: int) -> DraftBatch:
        time = self.plan.time
        starts = random.integers(0, max(len(ids) - time, 1), count)
        rows = np.stack([ids[start : start + time].astype(np.int64) for start in starts])
        return DraftBatch(torch.from_numpy(rows), torch.ones(count, rows.shape[1] + 1), False)

    def _gap_batch(self, random: np.random.Generator) -> DraftBatch:
        plan = self.plan
        rows = np.full((plan.rows, plan.time), self._pad, dtype=np.int64)
        weights = np.zeros((plan.rows, plan.time + 1), dtype=np.float32)
        for row, index in enumerate(random.choice(self._gaps, plan.rows)):
            ids, middle = self._corpus.gap(int(index))
            rows[row, : len(ids)] = ids
            weights[row, : len(ids)] = 1.0
            weights[row, middle : len(ids)] = plan.middle_weight
        return DraftBatch(torch.from_numpy(rows), torch.from_numpy(weights), True)

    def tokens(self, batch: DraftBatch) -> int:
        return batch.ids.numel()

    def loss(self, batch: DraftBatch, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        device = self.decoder.device
        ids, weights = (x.to(device, non_blocking=True) for x in (batch.ids, batch.weights))
        losses, right = self._forward(ids, weights, batch.gaps)
        seen = [weights[:, k + 1 :] > 0 for k in range(1, len(losses) + 1)]
        shares = [(a & s).sum() / s.sum() for a, s in zip(accepted(right), seen, strict=True)]
        found = {f"loss_{k}": loss.detach() for k, loss in enumerate(losses, 1)}
        found |= {f"accepted_{k}": share for k, share in enumerate(shares, 1)}
        return compensated(losses, self.plan.alpha, self.plan.beta), found

    def _forward(self, ids: Tensor, weights: Tensor, gaps: bool) -> tuple[list[Tensor], list[Tensor]]:
        """The loss of each depth, and where its best draft is the decoder's best: masks [B, T - k]."""
        device = self.decoder.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"), self._switch.set(gaps):
            with torch.no_grad():
                hidden = self.decoder.hidden(ids)
                teacher = F.linear(self.decoder.norm(hidden), self._head)
            losses, right = [], []
            beyond = len(self.plan.alpha) - self.mtp.config.depth
            for depth, state in enumerate(self.mtp.states(self.decoder, ids, hidden, beyond)):
                student = self.mtp.logits(depth, state, self._head)
                wanted = teacher[:, depth + 1 :]
                counts = weights[:, depth + 2 :]
                losses.append(self.cross_entropy(student.flatten(0, 1), wanted.flatten(0, 1), counts.flatten()))
                right.append(student.detach().argmax(-1) == wanted.argmax(-1))
        return losses, right

    def weights(self, progress: float) -> AbstractContextManager[None]:
        return self.as_saved() if progress >= self.plan.round_from else nullcontext()

    @contextmanager
    def as_saved(self) -> Iterator[None]:
        """The matrices hold what their file would give back; gradients found meanwhile are kept for the real ones.

        Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
        """
        real = [matrix.data for matrix in self._matrices]
        for matrix in self._matrices:
            matrix.data = rounded(matrix.data)
        try:
            yield
        finally:
            for matrix, data in zip(self._matrices, real, strict=True):
                matrix.data = data

    @torch.no_grad()
    def measure(self) -> Mapping[str, float]:
        """Acceptance on held-out text as it stands, with the weights as they would be saved."""
        if len(self._corpus.held_out) <= self.plan.time:
            return {}
        totals: list[float] = []
        count = max(HELD_OUT_ROWS // self.plan.rows, 1)
        with self.as_saved():
            for i in range(count):
                random = np.random.default_rng([self.plan.seed, 7, i])
                batch = self._plain_batch(self._corpus.held_out, random, self.plan.rows)
                _, right = self._forward(
                    batch.ids.to(self.decoder.device), batch.weights.to(self.decoder.device), False
                )
                shares = [mask.float().mean().item() for mask in accepted(right)]
                totals = [a + b for a, b in zip(totals or [0.0] * len(shares), shares, strict=True)]
        found = [total / count for total in totals]
        named = {f"held_out_{k}": round(share, 4) for k, share in enumerate(found, 1)}
        found = found[: self.mtp.config.depth]
        return named | {"held_out_tokens_per_pass": round(tokens_per_pass(found), 4), "drift": round(drift(found), 4)}


def drift(shares: Sequence[float]) -> float:
    """How much less a draft is right, given that those before it were, from the first depth to the last."""
    given = [shares[0], *(b / a if a else 0.0 for a, b in pairwise(shares))]
    return given[0] - given[-1]


def drafted_ids(frequent: npt.NDArray[np.int64], count: int, always: Iterable[int]) -> list[int]:
    """The `count` most frequent ids, with those of `always` among them in any case."""
    must = sorted(set(always))
    rest = [int(i) for i in frequent if int(i) not in set(must)]
    return (must + rest)[:count]
