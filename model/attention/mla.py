"""Multi-head latent attention: keys and values of all heads come from one narrow latent, which is all that is cached.

    c = norm(W_c x)            latent, C features            k_r = rotate(W_r x)      one rotary key for all heads
    k_h = [U_h c ; k_r]        keys of head h                v_h = V_h c              values of head h
    q_h = [p_h ; rotate(r_h)]  queries, from x or from a latent of their own

Two forms give the same result within rounding. *Expanded*, for many tokens: keys and values are made from the latents.
*Absorbed*, for few tokens after many: q_h · U_h c = (U_hᵀ p_h) · c, so that the latents are keys and values themselves,
shared by all heads; nothing is made for the positions that are only looked at. Source: DeepSeek-V2, 2024, section 2.1.
Letters: H heads, C latent, P key features of a head without position, R rotary features, V value features, S positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention.span import Span, apart, attended
from model.cache import LayerCache, LayerCaches, Row
from model.config import Latent, ModelConfig
from model.errors import BadModelFile
from model.layers import ROWS_APART, Linear, RMSNorm, rotate
from model.positions import plain_rotary

ABSORBED_ROWS = 32
"""Up to so many tokens of a pass, the absorbed form does less work."""

AT_ONCE = 4
"""Rows of one product with a matrix for each head: three take twice the time of one, and so does every product."""

LATENT_EPS = 1e-6
"""Of the latents' norms, which DeepSeek's configurations do not name."""


class HeadsUp(nn.Module):
    """From the latent to each head's keys and values: rows [H·(P + V), C], used from both sides."""

    weight: nn.Parameter

    def __init__(self, heads: int, latent: Latent, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads, self.plain, self.value = heads, latent.plain_width, latent.value_width
        rows = heads * (self.plain + self.value)
        self.weight = nn.Parameter(torch.empty(rows, latent.width, dtype=dtype), requires_grad=False)

    def expand(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, C] -> keys [B, H, S, P] and values [B, H, S, V]."""
        made = F.linear(latents.to(self.weight.dtype), self.weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = made.split([self.plain, self.value], -1)
        return keys, values

    def absorb(self, queries: Tensor) -> Tensor:
        """Queries for keys [B, H, T, P] -> queries for latents [B, H, T, C]."""
        return _by_head(queries.to(self.weight.dtype), self._heads()[:, : self.plain])

    def values(self, seen: Tensor) -> Tensor:
        """What was seen of the latents [B, H, T, C] -> what that is of the values [B, H, T, V]."""
        return _by_head(seen.to(self.weight.dtype), self._heads()[:, self.plain :].transpose(1, 2))

    def _heads(self) -> Tensor:
        return self.weight.view(self.heads, self.plain + self.value, -1)


def _by_head(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, H, T, K] and a matrix for each head [H, K, N] -> [B, H, T, N]; few rows on a CPU in products of one shape.

    The order of a sum depends on the shape of a product (`model.layers.ROWS_APART`).
    """
    batch, heads, time, width = x.shape
    count = batch * time
    rows = x.transpose(0, 1).reshape(heads, count, width)
    if x.device.type == "cpu" and time <= ROWS_APART:
        fours = [
            F.pad(rows[:, at : at + AT_ONCE], (0, 0, 0, max(at + AT_ONCE - count, 0)))
            for at in range(0, count, AT_ONCE)
        ]
        found = [torch.bmm(four, weight) for four in fours]
        y = found[0] if len(found) == 1 else torch.cat(found, 1)
    else:
        y = torch.bmm(rows, weight)
    return y[:, :count].view(heads, batch, time, -1).transpose(0, 1)


class LowRankQueries(nn.Module):
    """[..., Cq] -> [..., H·(P + R)], through a norm."""

    def __init__(self, inner: int, outputs: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = RMSNorm(inner, LATENT_EPS, dtype)
        self.up = Linear(inner, (outputs,), False, dtype)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.norm(x))
        return y


class LatentAttention(nn.Module):
    """A cached row is [rotary key R | latent C], for all heads."""

    rotary = staticmethod(plain_rotary)

    def __init__(self, config: ModelConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        latent = latent_of(config)
        self.heads, self.latent, self.rotary_width = config.heads, latent.width, config.rope.width
        self.plain, self.value = latent.plain_width, latent.value_width
        self.scale = latent.gain * (self.plain + self.rotary_width) ** -0.5
        queries = self.heads * (self.plain + self.rotary_width)
        first = latent.query_width or queries
        self.parts = (first, self.latent + self.rotary_width)
        self.pieces = (first, self.latent, self.rotary_width)
        self.down = Linear(config.width, self.parts, config.qkv_bias, dtype)
        self.query: nn.Module = LowRankQueries(first, queries, dtype) if latent.query_width else nn.Identity()
        self.latent_norm: nn.Module = RMSNorm(self.latent, LATENT_EPS, dtype) if latent.normed else nn.Identity()
        self.up = HeadsUp(self.heads, latent, dtype)
        self.out = Linear(self.heads * self.value, (config.width,), config.out_bias, dtype)

    @staticmethod
    def rows(config: ModelConfig, layer: int) -> tuple[Row, ...]:
        """The rotary key beside the latent."""
        return (Row(1, config.rope.width + latent_of(config).width),)

    def forward(self, x: Tensor, span: Span, cache: LayerCache | LayerCaches | None) -> Tensor:
        """[B, T, K] -> [B, T, K]"""
        batch, time, _ = x.shape
        first, latent, key = self.down(x).split_with_sizes(self.pieces, -1)
        queries = self.query(first).view(batch, time, self.heads, -1).transpose(1, 2)  # [B, H, T, P + R]
        plain, turned = queries.split_with_sizes((self.plain, self.rotary_width), -1)
        keys, ways = self._turned(key.unsqueeze(1), turned, span)
        row = torch.cat([keys[0], self.latent_norm(latent).unsqueeze(1), *keys[1:]], -1).to(span.dtype)

        def attend(queries: tuple[Tensor, ...], rows: tuple[Tensor, ...], at: Span) -> Tensor:
            few = cache is not None and at.time <= ABSORBED_ROWS
            return (self._absorbed if few else self._expanded)(queries[0], queries[1:], rows[0], at)

        y = attended((plain, *ways), (row,), span, cache, attend)
        z: Tensor = self.out(y.to(x.dtype).transpose(1, 2).reshape(batch, time, -1))
        return z

    def _absorbed(self, plain: Tensor, turned: tuple[Tensor, ...], rows: Tensor, span: Span) -> Tensor:
        """plain [B, H, T, P], turned [B, H, T, R] each, rows [B, 1, S, ·] -> [B, H, T, V]"""
        # Rows are their own values: what is seen of the rotary keys is cut off again, which takes no copy of the rows.
        wide = self.rotary_width + self.latent
        queries = self._joined(self.up.absorb(plain), turned)
        if span.time == 1 or plain.device.type != "cpu":
            seen = self._attend(queries, rows, rows[..., :wide], span)
        else:  # one by one, so that no row's last bit depends on those beside it (`model.layers.ROWS_APART`)
            single = apart((queries,), (rows,), span)
            seen = torch.cat([self._attend(query, keys, keys[..., :wide], at) for query, keys, at in single], 2)
        return self.up.values(seen[..., self.rotary_width :])

    def _expanded(self, plain: Tensor, turned: tuple[Tensor, ...], rows: Tensor, span: Span) -> Tensor:
        """The same by way of every head's own keys and values."""
        before, latents, after = rows.tensor_split([self.rotary_width, self.rotary_width + self.latent], -1)
        keys, values = self.up.expand(latents[:, 0])
        shared = [part.expand(-1, self.heads, -1, -1) for part in (before, after)]
        joined = torch.cat([shared[0], keys.to(rows.dtype), shared[1]], -1)
        return self._attend(self._joined(plain, turned), joined, values.to(rows.dtype), span)

    @staticmethod
    def _joined(plain: Tensor, turned: tuple[Tensor, ...]) -> Tensor:
        """Queries in the order of a row: turned for near keys, without position, and, if they are, for far keys."""
        return torch.cat([turned[0], plain, *turned[1:]], -1)

    # What positions mean for the scores, in both forms. F: P expanded, C absorbed; G: H expanded, 1 absorbed.

    def _turned(self, key: Tensor, queries: Tensor, span: Span) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Rotary keys [B, 1, T, R] and queries [B, H, T, R], turned in every way that is needed: near first."""
        return (rotate(key, span.rotation),), (rotate(queries, span.rotation),)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
        """queries [B, H, T, R + F], keys [B, G, S, R + F], values [B, G, S, E] -> [B, H, T, E]"""
        return causal_attention(queries.to(span.dtype), keys, values, self.scale, span)


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor, scale: float, span: Span) -> Tensor:
    """queries [B, H, T, D], keys [B, G, S, D], values [B, G, S, E] -> [B, H, T, E]"""
    heads, groups, width = queries.shape[1], keys.shape[1], values.shape[-1]
    if keys.shape[-1] > width:  # PyTorch's quick attention is for values as wide as keys; padding always copies
        values = F.pad(values, (0, keys.shape[-1] - width))
    if span.start == 0:
        causal = span.time > 1
        y = F.scaled_dot_product_attention(
            queries, keys, values, is_causal=causal, scale=scale, enable_gqa=groups < heads
        )
        return y[..., :width]
    stacked = queries.reshape(queries.shape[0], groups, -1, queries.shape[-1])  # [B, G, H/G·T, D]
    mask = span.causal(heads // groups) if span.time > 1 else None
    y = F.scaled_dot_product_attention(stacked, keys, values, attn_mask=mask, scale=scale)
    return y[..., :width].reshape(*queries.shape[:3], width)


def latent_of(config: ModelConfig) -> Latent:
    """What is compressed to which width; BadModelFile if the configuration does not say."""
    if config.latent is None:
        raise BadModelFile(f"attention '{config.attention}' needs a latent, and the config has none")
    return config.latent
