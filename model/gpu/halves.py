"""The halves of a layer by the fused ops: an attention or a feed-forward, and the residual sum behind it.

Letters: R rows of the block, K width, S capacity of the cache, G groups, D head width, W features of a latent row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

import kernels
from kernels.experts import MOST_SLOTS, Routing
from kernels.latent import Heads
from kernels.weights import Weight, activations
from model.attention.gqa import GroupedQueryAttention
from model.attention.grouped import GroupedLatentAttention, GroupedPositionAttention, Temperatures
from model.attention.mla import LatentAttention, LowRankQueries
from model.attention.swa import SlidingWindowAttention
from model.feed_forward import MixtureOfExperts, SwiGLU
from model.feed_forward.moe import ExpertLinear
from model.feed_forward.quantised import QuantisedExperts
from model.feed_forward.routing import Router
from model.gpu.parts import FORMAT, Norm, Product, norm_of, product_of, weight_of
from model.layers import RMSNorm

CHUNK = 128
"""Keys that one program of the attention sees."""


class AttentionHalf(Protocol):
    """The first half of a layer."""

    def __call__(self, x: Tensor, rotation: Tensor, start: Tensor) -> Tensor:
        """fp32 [R, K] at positions start … -> fp32 [R, K]; it writes rows of its cache."""
        ...

    def reads(self) -> list[tuple[Weight, float]]:
        """The weights, and which share of each one row reads."""
        ...


class FeedForwardHalf(Protocol):
    """The second half of a layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """fp32 [R, K] -> fp32 [R, K]"""
        ...

    def reads(self) -> list[tuple[Weight, float]]:
        """The weights, and which share of each one row reads."""
        ...


class Grouped(NamedTuple):
    """Grouped-query attention."""

    norm: Norm
    qkv: Product
    out: Product
    keys: Tensor  # [G, S, D]
    values: Tensor  # [G, S, D]

    def __call__(self, x: Tensor, rotation: Tensor, start: Tensor) -> Tensor:
        seen = kernels.merge(*self.attend(x, rotation, start), start, CHUNK, activations(self.out.weight))
        return kernels.linear_add(x, seen, *self.out)

    def attend(self, x: Tensor, rotation: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """What `kernels.attend` finds in chunks of the cache."""
        q = kernels.norm_heads(x, *self.norm, *self.qkv, rotation, self.keys, self.values, start)
        return kernels.attend(q, self.keys, self.values, start, CHUNK)

    def reads(self) -> list[tuple[Weight, float]]:
        return [(self.qkv.weight, 1.0), (self.out.weight, 1.0)]


class Latent(NamedTuple):
    """Latent attention, absorbed, with or without far keys."""

    norm: Norm
    down: Product
    queries: tuple[Norm, Product] | None  # from a latent of their own
    latent_norm: Norm | None
    up: Tensor  # [H·(P + V), C]
    out: Product
    factors: Tensor  # fp32 [2, H]
    heads: Heads
    rows: Tensor  # [S, W]

    def __call__(self, x: Tensor, rotation: Tensor, start: Tensor) -> Tensor:
        of = self.heads
        made = kernels.norm_linear(x, *self.norm, *self.down)
        first = made.shape[1] - of.latent - of.rotary
        queries, latent = made.split([first, of.latent + of.rotary], 1)
        if self.queries:
            norm, up = self.queries
            queries = kernels.norm_linear(queries, *norm, *up)
        gain, eps = self.latent_norm or (None, 1.0)
        asked = kernels.absorb(queries, latent, gain, eps, self.up, rotation, self.rows, start, of)
        found = kernels.attend_latent(asked, self.rows, self.factors, start, of, self.chunk)
        seen = kernels.merge_latent(*found, self.up, start, of, self.chunk, activations(self.out.weight))
        return kernels.linear_add(x, seen, *self.out)

    def reads(self) -> list[tuple[Weight, float]]:
        low_rank = [self.queries[1].weight] if self.queries else []
        return [(weight, 1.0) for weight in (self.down.weight, *low_rank, self.up, self.out.weight)]

    @property
    def chunk(self) -> int:
        """Latent rows that one program sees."""
        return self.heads.chunk(self.rows.dtype)


class Dense(NamedTuple):
    """A SwiGLU."""

    norm: Norm
    gate_up: Product
    down: Product

    def __call__(self, x: Tensor) -> Tensor:
        inner = kernels.norm_swiglu(x, *self.norm, *self.gate_up)
        return kernels.linear_add(x, inner, *self.down)

    def reads(self) -> list[tuple[Weight, float]]:
        return [(self.gate_up.weight, 1.0), (self.down.weight, 1.0)]


class Mixture(NamedTuple):
    """A mixture of experts, routed on the device; it counts no tokens (`model.feed_forward.routing.Counts`)."""

    norm: Norm
    router: Tensor  # [E, K]
    bias: Tensor | None
    routing: Routing
    width: int
    gate_up: Weight  # [E·2I, K]
    down: Weight  # [E·K, I]
    shared: tuple[Weight, Weight] | None

    def __call__(self, x: Tensor) -> Tensor:
        first, last = self.shared or (None, None)
        ids, gates = kernels.route(x, *self.norm, self.router, self.bias, self.routing)
        inner = kernels.experts_swiglu(x, *self.norm, ids, self.gate_up, first, self.width)
        return kernels.experts_add(x, inner, ids, gates, self.down, last)

    def reads(self) -> list[tuple[Weight, float]]:
        share = self.routing.chosen / self.routing.experts
        shared = [(weight, 1.0) for weight in self.shared or ()]
        return [(self.router, 1.0), (self.gate_up, share), (self.down, share), *shared]


def attention_half(norm: RMSNorm, module: nn.Module, rows: tuple[Tensor, ...]) -> AttentionHalf:
    """What an attention's modules hold, and the rows of its cache; `problem` says whether there is such a half."""
    if isinstance(module, GroupedQueryAttention):
        keys, values = (kept[0] for kept in rows)
        return Grouped(norm_of(norm), product_of(module.qkv), product_of(module.out), keys, values)
    assert isinstance(module, LatentAttention)
    queries, latent_norm = module.query, module.latent_norm
    low_rank = None
    if isinstance(queries, LowRankQueries):
        low_rank = (norm_of(queries.norm), product_of(queries.up))
    factors = torch.full((2, module.heads), module.scale, device=norm.weight.device)
    if isinstance(module, GroupedLatentAttention) and isinstance(module.temperatures, Temperatures):
        factors *= module.temperatures.weight.detach().float()
    (kept,) = rows
    return Latent(
        norm_of(norm),
        product_of(module.down),
        low_rank,
        norm_of(latent_norm) if isinstance(latent_norm, RMSNorm) else None,
        module.up.weight.detach(),
        product_of(module.out),
        factors,
        heads_of(module),
        kept[0, 0],
    )


def feed_forward_half(norm: RMSNorm, module: nn.Module) -> FeedForwardHalf:
    """The same for a feed-forward."""
    if isinstance(module, SwiGLU):
        return Dense(norm_of(norm), product_of(module.gate_up), product_of(module.down))
    assert isinstance(module, MixtureOfExperts)
    router, experts = module.router, module.router.experts
    shared = None
    if isinstance(module.shared, SwiGLU):
        shared = (product_of(module.shared.gate_up).weight, product_of(module.shared.down).weight)
    gate_up, down = experts_of(module.expert_gate_up), experts_of(module.expert_down)
    assert gate_up is not None and down is not None
    return Mixture(
        norm_of(norm),
        router.weight.detach(),
        router.bias.detach() if experts.balanced else None,
        routing_of(router),
        experts.width,
        gate_up,
        down,
        shared,
    )


def heads_of(module: LatentAttention) -> Heads:
    """The sizes of latent attention."""
    of = Heads(module.heads, module.plain, module.rotary_width, module.latent, module.value)
    if isinstance(module, GroupedLatentAttention):
        return of._replace(window=module.window, factor=module.factor)
    return of


def routing_of(router: Router) -> Routing:
    """How a router chooses, as it was last told to."""
    experts, (threshold, fallback) = router.experts, router.strategy
    return Routing(
        experts.count,
        experts.chosen,
        experts.groups,
        experts.chosen_groups,
        experts.group_score == "best-two",
        experts.scoring == "sigmoid",
        experts.normalised,
        experts.scale,
        threshold,
        fallback == "dense",
    )


def experts_of(module: nn.Module) -> Weight | None:
    """The matrices of all experts, one below the other; None if the fused products do not read them."""
    if isinstance(module, ExpertLinear):
        return module.weight.detach()
    if isinstance(module, QuantisedExperts) and all(weight_of(each) is not None for each in module.experts):
        return module.together()
    return None


def problem(attention: nn.Module, feed_forward: nn.Module) -> str | None:
    """Why a layer of these has no such halves, in a few words; None if it has."""
    found = _attention_problem(attention) or _feed_forward_problem(feed_forward)
    if found is None and any(weight_of(module) is None for module in _linears(attention, feed_forward)):
        found = FORMAT
    return found


def _attention_problem(module: nn.Module) -> str | None:
    if isinstance(module, LatentAttention):
        return heads_of(module).problem()
    if not isinstance(module, GroupedQueryAttention) or isinstance(
        module, GroupedPositionAttention | SlidingWindowAttention
    ):
        return "its attention has no fused kernels"
    width = module.width
    return f"heads of width {width} have no fused kernels" if width % 32 or width & (width - 1) else None


def _feed_forward_problem(module: nn.Module) -> str | None:
    if isinstance(module, SwiGLU):
        return None
    if not isinstance(module, MixtureOfExperts):
        return "its feed-forward has no fused kernels"
    slots = routing_of(module.router).slots
    if slots > MOST_SLOTS:
        return f"{slots} experts of a token have no fused kernels"
    if isinstance(module.shared, SwiGLU) and module.shared.gate_up.bias is not None:
        return "shared experts with biases have no fused kernels"
    return FORMAT if experts_of(module.expert_gate_up) is None or experts_of(module.expert_down) is None else None


def _linears(attention: nn.Module, feed_forward: nn.Module) -> Iterator[nn.Module]:
    if isinstance(attention, GroupedQueryAttention):
        yield attention.qkv
    elif isinstance(attention, LatentAttention):
        yield attention.down
        if isinstance(attention.query, LowRankQueries):
            yield attention.query.up
    yield attention.get_submodule("out")
    dense = feed_forward.shared if isinstance(feed_forward, MixtureOfExperts) else feed_forward
    if isinstance(dense, SwiGLU):
        yield from (dense.gate_up, dense.down)
