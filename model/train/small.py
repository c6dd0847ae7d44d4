"""Learning to write and to fill gaps from nothing: the network of `model.small` on endless text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.mtp import GROUP, rounded
from model.small.network import MoE, Network
from model.small.stored import in_four_bits
from model.tokenizer import Tokenizer
from model.train import muon
from model.train.loop import Plan, Task
from model.train.mtp_loss import accepted, compensated, tokens_per_pass
from model.train.passkeys import Passkeys
from model.train.streams import Streams, Windows


@dataclass(frozen=True)
class SmallPlan:
    """What is shown, and how it is judged."""

    rows: int = 16
    time: int = 4096
    gap_share: float = 0.5
    """Of the rows, those from the stream of gaps."""
    middle_weight: float = 1.0
    """A token that belongs into a gap, and the end behind it, counts as much as so many others; so does a number that
    is hidden further back."""
    passkey_share: float = 0.0
    """Of the rows, those with hidden numbers (`model.train.passkeys`); they are taken from the plain ones."""
    draft_share: float = 0.5
    """Of the rows, those that the multi-token modules learn from as well."""
    alpha: tuple[float, ...] = (1.0, 0.3, 0.2)
    """What the losses of the depths count: the network's own, then the modules'."""
    beta: float = 0.0
    """Weight of the error compensation between depths."""
    z: float = 1e-4
    """Weight of the squared normaliser, which keeps logits small (Chowdhery et al., "PaLM", 2022, section 5)."""
    balance: float = 1e-3
    """How far a router's biases move in a step."""
    round_from: float = 0.7
    """From this share of the steps on, matrices are used as four bits keep them."""
    held_out_rows: int = 64
    seed: int = 0


class SmallBatch(NamedTuple):
    """ids [B, T + depth + 1], and which of them belong into a gap or are numbers that stand further back."""

    ids: Tensor
    hidden: Tensor


class SmallTask:
    """See `model.train.loop.Task`."""

    def __init__(self, network: Network, streams: Streams, plan: SmallPlan, tokenizer: Tokenizer) -> None:
        self.network, self.plan = network, plan
        self.depth = network.shape.depth
        size = plan.time + self.depth + 1
        self._plain = Windows(streams.plain, size, plan.time, plan.seed)
        self._gaps, self._marks = (Windows(part, size, plan.time, plan.seed + 1) for part in streams.gaps)
        self._held_out = streams.held_out
        self._gap_rows = round(plan.rows * plan.gap_share)
        self._passkey_rows = min(round(plan.rows * plan.passkey_share), plan.rows - self._gap_rows)
        self._passkeys = Passkeys(tokenizer, plan.seed)
        self._drafted = max(round(plan.rows * plan.draft_share), 1) if plan.draft_share else 0
        lengths = [len(piece or b"") for piece in tokenizer.pieces]
        self._bytes = torch.tensor(lengths, device=network.device)
        self._matrices = [p for name, p in network.named_parameters() if in_four_bits(name, p.dim())]
        self._dtype = torch.bfloat16 if network.device.type == "cuda" else torch.float32
        self._losses = token_losses

    def compile(self) -> None:
        """Let PyTorch compile the blocks and the losses."""
        for block in self.network.blocks:
            block.compile(dynamic=False)
        for module in self.network.modules_behind:
            module.get_submodule("block").compile(dynamic=False)
        self._losses = torch.compile(token_losses, dynamic=False)

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.network.parameters()

    def batch(self, step: int) -> SmallBatch:
        many = self.plan.rows - self._gap_rows
        rows = [self._plain[step * many + i] for i in range(many)]
        hidden = [np.zeros(len(row), dtype=np.bool_) for row in rows]
        for i in range(step * self._gap_rows, (step + 1) * self._gap_rows):
            rows.append(self._gaps[i])
            hidden.append(self._marks[i].astype(np.bool_))
        for i in range(self._passkey_rows):
            rows[i], hidden[i] = self._passkeys.hidden_in(rows[i], step * self._passkey_rows + i)
        # Alternating, so that the rows which the modules learn from are of both kinds.
        order = np.argsort(np.r_[np.linspace(0, 1, many), np.linspace(0, 1, self._gap_rows)], kind="stable")
        found = (np.stack([rows[i] for i in order]), np.stack([hidden[i] for i in order]))
        return SmallBatch(*(torch.from_numpy(part) for part in found))

    def tokens(self, batch: SmallBatch) -> int:
        return len(batch.ids) * self.plan.time

    def loss(self, batch: SmallBatch, progress: float) -> tuple[Tensor, Mapping[str, Tensor]]:
        ids, hidden = (part.to(self.network.device, non_blocking=True) for part in batch)
        states, loads = self.network.states(ids, self.plan.time, self._drafted, self._dtype)
        head = self.network.embedding.to(self._dtype)
        counts = 1 + (self.plan.middle_weight - 1) * hidden.float()
        losses = []
        penalty = torch.zeros((), device=ids.device)
        for d, state in enumerate(states):
            place = slice(d + 1, d + 1 + self.plan.time)
            wanted, count = (x[: len(state), place].flatten() for x in (ids, counts))
            each, normaliser = self._losses(state.flatten(0, 1), head, wanted)
            losses.append((each * count).sum() / count.sum())
            penalty = penalty + self.plan.alpha[d] * self.plan.z * normaliser.square().mean()
        self._balance(loads)
        found = {f"loss_{d}": loss.detach() for d, loss in enumerate(losses)}
        found |= _uneven(loads)
        return compensated(losses, self.plan.alpha[: len(losses)], self.plan.beta) + penalty, found

    @torch.no_grad()
    def _balance(self, loads: Sequence[Tensor]) -> None:
        """An expert that had less than its share of tokens is chosen more easily from now on."""
        routers = [module for module in self.network.modules() if isinstance(module, MoE)]
        for router, load in zip(routers, loads, strict=False):  # in order; modules that were left out come last
            router.bias.add_(torch.sign(load.float().mean() - load), alpha=self.plan.balance)

    def weights(self, progress: float) -> AbstractContextManager[None]:
        return self.as_saved() if progress >= self.plan.round_from else nullcontext()

    @contextmanager
    def as_saved(self) -> Iterator[None]:
        """The matrices hold what their file would give back; gradients found meanwhile are kept for the real ones.

        Source: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.
        """
        real = [matrix.data for matrix in self._matrices]
        # All at once: groups lie within rows, so where a matrix ends does not matter.
        flat = rounded(torch.cat([data.flatten() for data in real]).view(-1, GROUP)).flatten()
        for matrix, part in zip(self._matrices, flat.split([data.numel() for data in real]), strict=True):
            matrix.data = part.view(matrix.shape)
        try:
            yield
        finally:
            for matrix, data in zip(self._matrices, real, strict=True):
                matrix.data = data

    def measure(self) -> Mapping[str, float]:
        """On held-out text, with the weights as they are and as four bits keep them."""
        plain = self.held_out()
        with self.as_saved():
            saved = self.held_out()
        return plain | {f"{key}_int4": value for key, value in saved.items()}

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Bits per byte, and how often the modules' best tokens are the network's own."""
        time, rows = self.plan.time, self.plan.rows
        size = time + self.depth + 1
        count = min(self.plan.held_out_rows, (len(self._held_out) - size) // size + 1) // rows
        if count < 1:
            return {}
        starts = np.linspace(0, len(self._held_out) - size, count * rows).astype(np.int64)
        nats, length = 0.0, 0
        shares = [0.0] * self.depth
        for some in np.split(starts, count):
            batch = np.stack([self._held_out[start : start + size].astype(np.int64) for start in some])
            ids = torch.from_numpy(batch).to(self.network.device)
            states, _ = self.network.states(ids, time, rows, self._dtype)
            wanted = ids[:, 1 : time + 1]
            head = self.network.embedding.to(self._dtype)
            best = []
            for d, state in enumerate(states):
                logits = [F.linear(one, head) for one in state]
                best.append(torch.stack([one.argmax(-1) for one in logits]))
                if d == 0:
                    pairs = zip(logits, wanted, strict=True)
                    nats += sum(float(F.cross_entropy(one.float(), ids_, reduction="sum")) for one, ids_ in pairs)
            length += int(self._bytes[wanted].sum())
            right = [best[d][:, : time - d] == best[0][:, d:] for d in range(1, self.depth + 1)]
            now = [float(mask.float().mean()) for mask in accepted(right)]
            shares = [before + share for before, share in zip(shares, now, strict=True)]
        found = {"bits_per_byte": round(nats / length / math.log(2), 4)}
        kept = [share / count for share in shares]
        found |= {f"accepted_{d}": round(share, 4) for d, share in enumerate(kept, 1)}
        return found | {"tokens_per_pass": round(tokens_per_pass(kept), 4)}


def token_losses(state: Tensor, head: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """state [N, K], head [V, K], wanted [N] -> -log q(wanted) and the logarithm of the normaliser, fp32 [N] each."""
    logits = F.linear(state, head).float()
    normaliser = torch.logsumexp(logits, -1)
    return normaliser - logits.gather(1, wanted.unsqueeze(1)).squeeze(1), normaliser


def _uneven(loads: Sequence[Tensor]) -> dict[str, Tensor]:
    """How much more than its share the busiest expert of a layer has, on the mean of the layers."""
    known = [load for load in loads if load.numel()]
    if not known:
        return {}
    return {"busiest": torch.stack([load.max() / load.float().mean() for load in known]).mean()}


def optimiser(task: Task[Any], plan: Plan) -> torch.optim.Optimizer:
    """Muon and AdamW over the task's network."""
    assert isinstance(task, SmallTask)
    trained = [(name, p) for name, p in task.network.named_parameters() if p.requires_grad]
    return muon.Muon(muon.groups(trained, plan.decay))
