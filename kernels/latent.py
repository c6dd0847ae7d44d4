"""The ops of latent attention for a block of few tokens: queries absorbed into latents, attention over them, values.

A cached row is all that is kept of a position: [near rotary key D | latent C], and behind it, where positions are
grouped, the far rotary key D. It is the same for all heads, so that the heads are the rows of one matrix product.

Letters: R rows of the block, H heads, C latent, D rotary features, P features of a head's key without position, V of
its values, S capacity of the cache, W features of a cached row. Sources: DeepSeek-V2, 2024, section 2.1; for near and
far, `model.positions`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.checks import expect, expect_shape, run, solid

LEAST = 16
"""Features that a matrix unit takes at a time."""

MOST_KEYS, KEPT_BYTES = 64, 1 << 15
"""Cached rows of a program, and bytes in them. Twice as many take all registers, and in fp32 a minute to compile."""


class Heads(NamedTuple):
    """What latent attention is made of."""

    heads: int  # H
    plain: int  # P
    rotary: int  # D
    latent: int  # C
    value: int  # V
    window: int = 0
    """Positions that are seen near, the query's own among them."""
    factor: int = 0
    """Positions beyond the window that share a place; 0: there is no far key, and all is seen near."""

    @property
    def row(self) -> int:
        """W"""
        return self.latent + self.rotary * (2 if self.factor else 1)

    @property
    def shift(self) -> int:
        """What is added to the coarse place of a query, so that both ways agree at the window's edge."""
        return self.window - self.window // self.factor if self.factor else 0

    def places(self, capacity: int) -> int:
        """Rows that a table of rotations needs, for so many positions."""
        return max(capacity, (capacity - 1) // self.factor + self.shift + 1) if self.factor else capacity

    def chunk(self, dtype: torch.dtype) -> int:
        """Cached rows that a program of `attend_latent` is to see: what its registers hold."""
        most = min(MOST_KEYS, KEPT_BYTES // (self.row * dtype.itemsize))
        return max(1 << (most.bit_length() - 1), LEAST)

    def problem(self) -> str | None:
        """Why there are no such kernels, in a few words; None if there are."""
        for what, width in (("rotary keys", self.rotary), ("latents", self.latent)):
            if width < LEAST or width & (width - 1):
                return f"{what} of width {width} have no fused kernels"
        return None


def absorb(
    queries: Tensor,
    made: Tensor,
    gain: Tensor | None,
    eps: float,
    up: Tensor,
    rotation: Tensor,
    kept: Tensor,
    start: Tensor,
    of: Heads,
) -> Tensor:
    """Queries for cached rows, in the order of a row, and the new rows into the cache.

    queries: fp32 [R, H·(P + D)]. made: fp32 [R, C + D], latent and rotary key, of which the latent is normed where
    there is a `gain` [C]. up: [H·(P + V), C], what makes keys and values of a latent. rotation: fp32 [`places(S)`, D],
    cosines then sines. kept: [S, W]; rows start … start + R - 1 are written. Returns [R, H, W] in kept's dtype.
    """
    expect("queries", queries, 2, torch.float32)
    expect_shape("queries", queries, len(made), of.heads * (of.plain + of.rotary))
    expect("made", made, 2, torch.float32)
    expect_shape("made", made, len(made), of.latent + of.rotary)
    expect_shape("up", solid("up", up), of.heads * (of.plain + of.value), of.latent)
    if gain is not None:
        expect_shape("gain", gain, of.latent)
    _expect_kept(kept, start, of)
    if rotation.shape[0] < of.places(len(kept)) or rotation.shape[1] != of.rotary:
        raise ValueError(f"rotation of shape {list(rotation.shape)}; expected {[of.places(len(kept)), of.rotary]}")
    y: Tensor = run("absorb", queries).absorb(
        queries, made, gain, eps, up, solid("rotation", rotation), kept, start, of
    )
    return y


def attend_latent(
    queries: Tensor, kept: Tensor, factors: Tensor, start: Tensor, of: Heads, chunk: int
) -> tuple[Tensor, Tensor]:
    """Attention over each chunk of cached rows by itself; row i sees those up to start + i, all of them written.

    queries: [R, H, W] and kept: [S, W], of one dtype. factors: fp32 [2, H], what near and far scores are multiplied
    with. Returns means of latents fp32 [R, H, chunks, C], and the log2 of the sums that they were divided by, fp32
    [R, H, chunks]; what a row does not see is not written. `merge_latent` puts them together.
    """
    expect("queries", queries, 3, kept.dtype)
    expect_shape("queries", queries, len(queries), of.heads, of.row)
    expect("factors", factors, 2, torch.float32)
    expect_shape("factors", factors, 2, of.heads)
    _expect_kept(kept, start, of)
    if chunk < LEAST or chunk & (chunk - 1):
        raise ValueError(f"chunks of {chunk} keys; expected a power of two, {LEAST} or more")
    found: tuple[Tensor, Tensor] = run("attend_latent", queries).attend_latent(
        queries.contiguous(), kept, factors.contiguous(), start, of, chunk
    )
    return found


def merge_latent(
    means: Tensor, sums: Tensor, up: Tensor, start: Tensor, of: Heads, chunk: int, dtype: torch.dtype
) -> Tensor:
    """What `attend_latent` found in its chunks, put together and made values of: -> [R, H·V] in `dtype`.

    up: [H·(P + V), C], as for `absorb`.
    """
    expect("means", means, 4, torch.float32)
    expect("sums", sums, 3, torch.float32)
    expect("start", start, 1, torch.int32)
    expect_shape("means", means, *sums.shape, of.latent)
    expect_shape("up", solid("up", up), of.heads * (of.plain + of.value), of.latent)
    y: Tensor = run("merge_latent", means).merge_latent(
        means.contiguous(), sums.contiguous(), up, start, of, chunk, dtype
    )
    return y


def _expect_kept(kept: Tensor, start: Tensor, of: Heads) -> None:
    expect("kept", solid("kept", kept), 2)
    expect_shape("kept", kept, len(kept), of.row)
    expect("start", start, 1, torch.int32)
    if problem := of.problem():
        raise ValueError(problem)
