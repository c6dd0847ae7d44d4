"""A mixture of experts: every token goes through a few of many small feed-forwards, and through one that all share.

Source: DeepSeek-V3 Technical Report, 2024, section 2.1.2; Dai et al., "DeepSeekMoE", 2024.
Letters: M tokens, K width, E experts, I features inside an expert, S slots of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from model.config import ModelConfig
from model.errors import BadModelFile
from model.feed_forward.dense import SwiGLU
from model.feed_forward.quantised import QuantisedExperts
from model.feed_forward.routing import Choice, Counts, Router
from model.layers import ROWS_APART


class ExpertLinear(nn.Module):
    """A matrix for each expert, one below the other: rows [E·N, K]. It is not a `Linear`: it needs to know whose.

    `parts`: its rows by the tensors of a checkpoint, which has one or two for each expert.
    """

    weight: nn.Parameter

    def __init__(self, experts: int, inputs: int, parts: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.experts = experts
        self.parts = parts * experts
        self.weight = nn.Parameter(torch.empty(sum(self.parts), inputs, dtype=dtype), requires_grad=False)

    def forward(self, x: Tensor, ends: Tensor) -> Tensor:
        """x [M, K], sorted by expert; ends int32 [E], the row behind each expert's last -> [M, N]"""
        return kernels.expert_linear(x, self.weight.view(self.experts, -1, self.weight.shape[-1]), ends)

    def one(self, x: Tensor, expert: int) -> Tensor:
        """x [1, K] -> [1, N], by one expert"""
        rows = self.weight.shape[0] // self.experts
        return F.linear(x.to(self.weight.dtype), self.weight[expert * rows : (expert + 1) * rows])


class Nothing(nn.Module):
    """No shared expert."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


ExpertProduct = ExpertLinear | QuantisedExperts


class MixtureOfExperts(nn.Module):
    """Σ gate · expert(x) over the chosen experts, and the shared expert's share."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        if config.experts is None:
            raise BadModelFile("a mixture of experts needs to know how many, and the config does not say")
        experts = config.experts
        self.count = experts.count
        self.router = Router(experts, config.width, dtype)
        self.expert_gate_up: ExpertProduct = ExpertLinear(
            experts.count, config.width, (experts.width, experts.width), dtype
        )
        self.expert_down: ExpertProduct = ExpertLinear(experts.count, experts.width, (config.width,), dtype)
        self.few: Callable[[Tensor, Choice], Tensor] = self._one_by_one
        """Up to ROWS_APART rows on a processor; a loader may put `model.feed_forward.together` there."""
        self.shared: nn.Module = Nothing()
        if experts.shared:
            self.shared = SwiGLU(replace(config, feed_forward_width=experts.shared * experts.width), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., K]"""
        rows = x.flatten(0, -2)
        few = len(rows) <= ROWS_APART and x.device.type == "cpu"
        return (self.few if few else self._sorted)(rows, self.router(rows)).view(x.shape)

    def _one_by_one(self, rows: Tensor, choice: Choice) -> Tensor:
        """[M, K] -> [M, K], token by token, so that no row's last bit depends on those beside it."""
        answers = []
        for row, ids, gates in zip(rows.split(1), choice.ids.tolist(), choice.gates, strict=True):
            used = [slot for slot, expert in enumerate(ids) if expert < self.count]
            x = row.clone()
            gate, up = torch.cat([self.expert_gate_up.one(x, ids[slot]) for slot in used]).chunk(2, -1)
            inner = F.silu(gate) * up
            y = torch.cat(
                [self.expert_down.one(part, ids[slot]) for part, slot in zip(inner.split(1), used, strict=True)]
            )
            answers.append((gates if len(used) == len(ids) else gates[used]).unsqueeze(0) @ y.float())
        together: Tensor = torch.cat(answers).to(rows.dtype) + self.shared(rows)
        return together

    def _sorted(self, rows: Tensor, choice: Choice) -> Tensor:
        """[M, K] -> [M, K]. Rows are sorted by expert, so that each expert's are a run; nothing waits for the host."""
        count, slots = choice.ids.shape
        chosen = choice.ids.flatten()
        order = chosen.argsort(stable=True)
        back = order.argsort()
        ends = torch.searchsorted(chosen[order], torch.arange(1, self.count + 1, device=rows.device), out_int32=True)
        # Behind the last expert's rows stand the slots that are not used: nothing is computed for them.
        used = (chosen < self.count).unsqueeze(-1)
        repeated = rows.unsqueeze(1).expand(-1, slots, -1).flatten(0, 1)
        gate, up = self.expert_gate_up(_permuted(repeated, order, back), ends).chunk(2, -1)
        y = _permuted(self.expert_down(F.silu(gate) * up, ends), back, order)
        weighted: Tensor = y.where(used, 0).view(count, slots, -1) * choice.gates.unsqueeze(-1)
        together: Tensor = weighted.sum(1).to(rows.dtype) + self.shared(rows)
        return together


class _Permuted(torch.autograd.Function):
    """Rows in another order. Its gradient is a look-up as well, which PyTorch, not knowing that, would add up."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient.index_select(0, back), None, None


def _permuted(x: Tensor, order: Tensor, back: Tensor) -> Tensor:
    """x [M, K] in the order `order`, of which `back` is the inverse."""
    y: Tensor = _Permuted.apply(x, order, back)  # type: ignore[no-untyped-call]
    return y


def mixtures(module: nn.Module) -> Iterator[MixtureOfExperts]:
    """All mixtures of experts in a decoder, from its first block to its last."""
    return (part for part in module.modules() if isinstance(part, MixtureOfExperts))


def set_routing_strategy(module: nn.Module, threshold: float, fallback: str) -> None:
    """The same strategy for all routers of a decoder (`Router.set_strategy`)."""
    for mixture in mixtures(module):
        mixture.router.set_strategy(threshold, fallback)


def balance(module: nn.Module, rate: float) -> None:
    """For a trainer, after each step: move all routers' biases against their load (`Router.balance`)."""
    for mixture in mixtures(module):
        mixture.router.balance(rate)


def activated(module: nn.Module) -> float:
    """Routed experts that a token was given, on average over tokens and layers, since the counts were reset."""
    counts: list[Counts] = [mixture.router.counted for mixture in mixtures(module)]
    tokens = sum(int(count.tokens) for count in counts)
    return sum(int(count.load.sum()) for count in counts) / tokens if tokens else 0.0
