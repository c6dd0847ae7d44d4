"""The network as it is trained: whole texts, gradients, no cache. The decoder of its checkpoint is its twin.

    block    x + attention(norm(x)), then x + feed_forward(norm(x))
    MLA      keys and values are expanded from a latent vector of C features; one turned key serves all heads
    MoE      each token has `chosen` of E experts, from the best groups, and the shared ones
    MTP      as in `model.mtp`, with blocks of the same kind

Sources: DeepSeek-V2 (2024), section 2.1; DeepSeek-V3 Technical Report (2024), sections 2.1 and 2.2; for the balance
without a loss Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", 2024. Letters: B
batch, T time, K width, H heads, G groups, C latent width, E experts, F expert width, N = B·T tokens, k chosen experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.small.shape import Shape


class Matrix(nn.Module):
    """y = x Wᵀ in the dtype of x, with W [N, K] kept in fp32."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Norm(nn.Module):
    """Root-mean-square norm, in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, heads, T, D] with its pairs (x[i], x[i + D/2]) turned by the angles of cos and sin [T, D/2]."""
    one, two = x.float().chunk(2, -1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1).to(x.dtype)


class MLA(nn.Module):
    """Latent attention, expanded."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.query = Matrix(shape.heads * shape.key, shape.width)
        self.down = Matrix(shape.latent + shape.rope, shape.width)
        self.latent_norm = Norm(shape.latent, shape.norm_eps)
        self.up = Matrix(shape.heads * (shape.nope + shape.value), shape.latent)
        self.out = Matrix(shape.width, shape.heads * shape.value)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        shape, (batch, time, _) = self.shape, x.shape
        q = self.query(x).view(batch, time, shape.heads, -1).transpose(1, 2)
        latent, key = self.down(x).split([shape.latent, shape.rope], -1)
        expanded = self.up(self.latent_norm(latent)).view(batch, time, shape.heads, -1).transpose(1, 2)
        near, value = expanded.split([shape.nope, shape.value], -1)
        key = turned(key.unsqueeze(1), cos, sin).expand(-1, shape.heads, -1, -1)
        q = torch.cat([q[..., : shape.nope], turned(q[..., shape.nope :], cos, sin)], -1)
        y = F.scaled_dot_product_attention(q, torch.cat([near, key], -1), value, is_causal=True)
        z: Tensor = self.out(y.transpose(1, 2).reshape(batch, time, -1))
        return z


class GQA(nn.Module):
    """Grouped-query attention."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.qkv = Matrix((shape.heads + 2 * shape.groups) * shape.key, shape.width)
        self.out = Matrix(shape.width, shape.heads * shape.key)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        shape, (batch, time, _) = self.shape, x.shape
        heads = self.qkv(x).view(batch, time, -1, shape.key).transpose(1, 2)
        q, k, v = heads.split([shape.heads, shape.groups, shape.groups], 1)
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        repeats = shape.heads // shape.groups
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        z: Tensor = self.out(y.transpose(1, 2).reshape(batch, time, -1))
        return z


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x))"""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_up = Matrix(2 * inner, width)
        self.down = Matrix(width, inner)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, K] -> [B, T, K], and the tokens of each expert: none."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up), torch.zeros(0, device=x.device)


class MoE(nn.Module):
    """Routed experts in groups, and shared ones. `bias` [E] only decides who is chosen; the task moves it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.router = nn.Parameter(torch.empty(shape.experts, shape.width))
        self.bias = nn.Parameter(torch.zeros(shape.experts), requires_grad=False)
        self.gate_up = nn.Parameter(torch.empty(shape.experts, 2 * shape.expert_width, shape.width))
        self.down = nn.Parameter(torch.empty(shape.experts, shape.width, shape.expert_width))
        self.shared = SwiGLU(shape.width, shape.shared * shape.expert_width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, K] -> [B, T, K], and how many tokens each expert had [E]."""
        shape, flat = self.shape, x.flatten(0, 1)
        weights, chosen = self.route(flat)
        order = chosen.flatten().argsort(stable=True)  # [N·k], expert by expert
        loads = (chosen.view(-1, 1) == torch.arange(shape.experts, device=x.device)).sum(0)
        ends = loads.cumsum(0).to(torch.int32)
        back = torch.empty_like(order).scatter(0, order, torch.arange(order.shape[0], device=x.device))
        gate, up = grouped(_sorted(flat, order, back, shape.chosen), self.gate_up, ends).chunk(2, -1)
        answers = _unsorted(grouped(F.silu(gate) * up, self.down, ends), order, back)
        weighed = answers.view(-1, shape.chosen, shape.width) * weights.to(x.dtype).unsqueeze(-1)
        shared, _ = self.shared(x)
        return weighed.sum(1).view_as(x) + shared, loads

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, K] -> weights and expert numbers, [N, k] each."""
        shape = self.shape
        logits = F.linear(x.float(), self.router)
        scores = logits.softmax(-1) if shape.scoring == "softmax" else logits.sigmoid()
        wanted = (scores.detach() + self.bias).view(-1, shape.expert_groups, shape.experts // shape.expert_groups)
        best = wanted.topk(2, -1).values.sum(-1).topk(shape.chosen_groups, -1).indices
        allowed = torch.zeros_like(wanted[..., 0]).scatter(1, best, 1.0).unsqueeze(-1)
        chosen = wanted.masked_fill(allowed == 0, -torch.inf).flatten(1).topk(shape.chosen, -1).indices
        taken = scores.gather(1, chosen)
        if shape.normalised:
            taken = taken / (taken.sum(-1, keepdim=True) + 1e-20)
        return taken * shape.scaling, chosen


class _Sorted(torch.autograd.Function):
    """x [N, K] -> its rows k times each, expert by expert [N·k, K]. The gradient is gathered, not scattered."""

    @staticmethod
    def forward(context: Any, x: Tensor, order: Tensor, back: Tensor, chosen: int) -> Tensor:
        context.save_for_backward(back)
        context.chosen = chosen
        return x[order // chosen]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = context.saved_tensors
        return gradient[back].unflatten(0, (-1, context.chosen)).sum(1), None, None, None


class _Unsorted(torch.autograd.Function):
    """Rows expert by expert -> rows token by token."""

    @staticmethod
    def forward(context: Any, x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        context.save_for_backward(order)
        return x[back]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (order,) = context.saved_tensors
        return gradient[order], None, None


_sorted: Callable[..., Tensor] = _Sorted.apply
_unsorted: Callable[..., Tensor] = _Unsorted.apply


def grouped(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """rows [n, K], the first ends[0] of which belong to weights[0] [N, K] and so on -> [n, N]."""
    if rows.is_cuda:
        return F.grouped_mm(rows, weights.to(rows.dtype).transpose(1, 2), offs=ends)
    sizes = ends.diff(prepend=ends.new_zeros(1)).tolist()
    return torch.cat([F.linear(part, w) for part, w in zip(rows.split(sizes), weights, strict=True)])


class Block(nn.Module):
    """One layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = Norm(shape.width, shape.norm_eps)
        self.attention: nn.Module = MLA(shape) if shape.attention == "mla" else GQA(shape)
        self.feed_forward_norm = Norm(shape.width, shape.norm_eps)
        self.feed_forward: nn.Module = (
            MoE(shape) if shape.feed_forward == "moe" else SwiGLU(shape.width, shape.dense_width)
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, K] -> [B, T, K], and the tokens of each expert [E]."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        y, loads = self.feed_forward(self.feed_forward_norm(x))
        return x + y, loads


class Module(nn.Module):
    """A multi-token module: state [B, T, K] and the embeddings [B, T, K] of the tokens behind -> the next state."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.state_norm = Norm(shape.width, shape.norm_eps)
        self.embedding_norm = Norm(shape.width, shape.norm_eps)
        self.projection = Matrix(shape.width, 2 * shape.width)
        self.block = Block(shape)
        self.norm = Norm(shape.width, shape.norm_eps)

    def join(self, state: Tensor, embedded: Tensor) -> Tensor:
        """What the block reads: the embedding's half first, as in DeepSeek-V3's own checkpoints."""
        joined: Tensor = self.projection(torch.cat([self.embedding_norm(embedded), self.state_norm(state)], -1))
        return joined


class Network(nn.Module):
    """Embedding, blocks, norm, and the modules behind them."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.norm_eps)
        self.modules_behind = nn.ModuleList(Module(shape) for _ in range(shape.depth))
        pairs = shape.rope if shape.attention == "mla" else shape.key
        turns = 1.0 / shape.theta ** (torch.arange(0, pairs, 2, dtype=torch.float32) / pairs)
        self.register_buffer("turns", turns, persistent=False)
        self._fill(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _fill(self, generator: torch.Generator) -> None:
        """Normal numbers that keep a signal about as large as it is; what is added to the stream begins small."""
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                scale = 0.02 if name == "embedding" else 0.5 * weight.shape[-1] ** -0.5
                scale *= 0.1 if name.endswith(("out.weight", "down.weight", "feed_forward.down")) else 1.0
                weight.normal_(0.0, scale, generator=generator)

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    def rotation(self, time: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, pairs] of the positions from 0 on."""
        angles = torch.arange(time, device=self.device).unsqueeze(-1) * self.get_buffer("turns")
        return angles.cos(), angles.sin()

    def embed(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """ids [B, T] -> [B, T, K]"""
        return F.embedding(ids, self.embedding).to(dtype)

    def states(self, ids: Tensor, time: int, rows: int, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        """The normed states that predict, depth by depth, and every layer's expert loads.

        ids [B, ≥ time + depth]. Depth 0 comes for all texts as [B, T, K], and predicts the token after; depth d for the
        first `rows` texts, and predicts the one d further on; with no rows, the modules are left out.
        """
        cos, sin = self.rotation(time)
        embedded = self.embed(ids, dtype)
        x, loads = embedded[:, :time].contiguous(), []
        for block in self.blocks:
            x, load = block(x, cos, sin)
            loads.append(load)
        found = [self.norm(x)]
        state = found[0] if self.shape.chain_normed else x
        for d, module in enumerate(self.modules_behind if rows else (), 1):
            assert isinstance(module, Module)
            state, load = module.block(module.join(state[:rows], embedded[:rows, d : d + time]), cos, sin)
            loads.append(load)
            found.append(module.norm(state))
            state = found[-1] if self.shape.chain_normed else state
        return found, loads

    def logits(self, state: Tensor) -> Tensor:
        """[..., K] -> [..., V]"""
        return F.linear(state, self.embedding.to(state.dtype))

    def parameters_used(self) -> tuple[int, int]:
        """All parameters, and those that one token meets: the embedding counts once, as the head."""
        everything = sum(p.numel() for p in self.parameters())
        idle = sum(
            p.numel() * (self.shape.experts - self.shape.chosen) // self.shape.experts
            for name, p in self.named_parameters()
            if p.dim() == 3
        )
        behind = sum(p.numel() for p in self.modules_behind.parameters())
        idle_behind = sum(
            p.numel() * (self.shape.experts - self.shape.chosen) // self.shape.experts
            for p in self.modules_behind.parameters()
            if p.dim() == 3
        )
        return everything, everything - behind - (idle - idle_behind)
