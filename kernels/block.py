"""The ops of one block of few tokens, from ids to the best next ids, for a whole decoder layer by layer.

They are what a GPU needs when it computes one token, or three, at a time: nothing between two products goes through
memory that need not, and nothing is longer than the weights it reads. The residual stream is fp32.

Letters: R rows (tokens of the block), K features in, N features out, H heads, G groups, D head width, S capacity of
the cache, C chunks of it, V vocabulary. Position `start` of the first row is a tensor, int32 [1], so that one recorded
graph serves every position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.checks import expect, expect_shape, run, solid
from kernels.finishing import Finish
from kernels.weights import Q8, Four, Head, Table, Weight, parts_of, shape_of


def embed(ids: Tensor, table: Table) -> Tensor:
    """Rows of a table: ids int32 [R], table [V, K] -> fp32 [R, K]."""
    expect("ids", ids, 1, torch.int32)
    numbers, *_ = (solid("table", part) for part in parts_of(table))
    expect("table", numbers, 2)
    y: Tensor = run("embed", numbers).embed(ids, table)
    return y


def norm_linear(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """rms_norm(x, gain) Wᵀ + b: x [R, K], gain [K], weight [N, K], bias [N] -> fp32 [R, N]."""
    expect_product(x, weight, bias, gain)
    y: Tensor = run("norm_linear", x).norm_linear(x, gain, eps, weight, bias)
    return y


def norm_swiglu(x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """silu(gate) · up of rms_norm(x, gain): x [R, K], gain [K], weight [2N, K], gate before up, bias [2N] -> [R, N].

    The result has the weight's dtype, or bfloat16 where the weight is in fewer bits.
    """
    expect_product(x, weight, bias, gain)
    if shape_of(weight)[0] % 2:
        raise ValueError(f"{shape_of(weight)[0]} rows of gate and up; expected an even number")
    y: Tensor = run("norm_swiglu", x).norm_swiglu(x, gain, eps, weight, bias)
    return y


def linear_add(x: Tensor, inner: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """x + inner Wᵀ + b: x [R, N], inner [R, K], weight [N, K], bias [N] -> fp32 [R, N]."""
    expect_product(inner, weight, bias)
    expected = [len(inner), shape_of(weight)[0]]
    if list(x.shape) != expected:
        raise ValueError(f"x of shape {list(x.shape)}; expected {expected}")
    y: Tensor = run("linear_add", x).linear_add(x, inner, weight, bias)
    return y


def turn(qkv: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """Rotary positions, and new rows into the cache.

    qkv: [R, (H + 2G)·D], queries, keys, values. rotation: fp32 [S, D], cosines then sines of D/2 angles.
    keys, values: [G, S, D]; rows start … start + R - 1 are written. Returns queries [R, H·D] in the cache's dtype.
    """
    expect("qkv", qkv, 2)
    _expect_cache(qkv.shape[1], rotation, keys, values, start)
    q: Tensor = run("turn", qkv).turn(qkv, rotation, keys, values, start)
    return q


def norm_heads(
    x: Tensor, gain: Tensor, eps: float, weight: Weight, bias: Tensor | None,
    rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor,
) -> Tensor:  # fmt: skip
    """`turn` of `norm_linear`: x [R, K], weight [(H + 2G)·D, K] -> queries [R, H·D]; it writes rows of the cache."""
    expect("x", x, 2, torch.float32)
    expect_product(x, weight, bias, gain)
    _expect_cache(shape_of(weight)[0], rotation, keys, values, start)
    q: Tensor = run("norm_heads", x).norm_heads(x, gain, eps, weight, bias, rotation, keys, values, start)
    return q


def attend(q: Tensor, keys: Tensor, values: Tensor, start: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Attention over each chunk of keys by itself: row i sees positions up to start + i.

    q: [R, H·D], turned by its position. keys, values: [G, S, D].
    Returns means of values [R, H, C, D] in the cache's dtype, and the log2 of the sums that they were divided by, fp32
    [R, H, C]: of chunk c and, in longer texts, of every C-th behind it, where C is at most
    `kernels.finishing.MOST_CHUNKS`.
    What a row does not see is not written. `merge` puts them together, or `finish`.
    Source: Dao et al., "Flash-Decoding for long-context inference", 2023; the chunks lie at fixed places.
    """
    expect("q", q, 2, keys.dtype)
    expect("start", start, 1, torch.int32)
    groups, _, width = _expect_keys(keys, values)
    if q.shape[1] % width or (q.shape[1] // width) % groups:
        raise ValueError(f"rows of {q.shape[1]} for {groups} groups of width {width}")
    if chunk < 16 or chunk & (chunk - 1):
        raise ValueError(f"chunks of {chunk} keys; expected a power of two, 16 or more")
    found: tuple[Tensor, Tensor] = run("attend", q).attend(
        q, solid("keys", keys), solid("values", values), start, chunk
    )
    return found


def merge(means: Tensor, sums: Tensor, start: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    """What `attend` found in its chunks, put together: [R, H, C, D] and [R, H, C] -> [R, H·D] in `dtype`."""
    expect("means", means, 4)
    expect("sums", sums, 3, torch.float32)
    expect("start", start, 1, torch.int32)
    y: Tensor = run("merge", means).merge(means, sums, start, chunk, dtype)
    return y


def finish(x: Tensor, means: Tensor, sums: Tensor, start: Tensor, chunk: int, of: Finish) -> Tensor:
    """The rest of a layer behind `attend`: x + out, and the feed-forward of that added to it.

    x: fp32 [R, K]. means, sums: [R, H, C, D] and fp32 [R, H, C], as `attend` gives them. Returns fp32 [R, K].
    """
    expect("x", x, 2, torch.float32)
    expect("means", means, 4)
    expect("start", start, 1, torch.int32)
    expect_shape("sums", sums, *means.shape[:3])
    expect_shape("means", means, len(x), *means.shape[1:])
    for weight in (of.out, of.gate_up, of.down):
        for part in parts_of(weight):
            solid("weight", part)
    y: Tensor = run("finish", x).finish(x, means, sums, start, chunk, of)
    return y


def mask_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Minus infinity, in place, where an id may not follow: fp32 [R, V].

    mask: int32 [R, ⌈V/32⌉] or [1, ⌈V/32⌉]; bit i of word w says whether id 32w + i may.
    """
    expect("logits", logits, 2, torch.float32)
    expect("mask", mask, 2, torch.int32)
    words = -(-logits.shape[1] // 32)
    if mask.shape not in ((len(logits), words), (1, words)):
        raise ValueError(f"mask of shape {list(mask.shape)}; expected {[len(logits), words]} or {[1, words]}")
    if logits.stride(1) != 1:
        raise ValueError("logits whose rows have gaps; they are changed in place")
    y: Tensor = run("mask_logits", logits).mask_logits(logits, solid("mask", mask))
    return y


def perturb(logits: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """logits / temperature + standard Gumbel noise: fp32 [R, V] -> fp32 [R, V].

    keys: int32 [R, 2], which say what the noise of a row is: a hash of them and of the id.
    Source: Papandreou and Yuille, "Perturb-and-MAP", 2011; `model.engine.order` says what it is for.
    """
    expect("logits", logits, 2, torch.float32)
    expect("keys", keys, 2, torch.int32)
    expect_shape("keys", keys, len(logits), 2)
    if logits.stride(1) != 1:
        raise ValueError("logits whose rows have gaps")
    y: Tensor = run("perturb", logits).perturb(logits, solid("keys", keys), temperature)
    return y


def widen(weight: Four) -> Tensor:
    """The numbers that a weight of four bits stands for, bfloat16 [N, K]: for products of many rows."""
    for part in weight:
        solid("weight", part)
    y: Tensor = run("widen", weight.words).widen(weight)
    return y


def add_norm(x: Tensor, y: Tensor | None, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x + y, fp32 [T, K], and rms_norm of that in `dtype`, [T, K]: for products of many rows.

    x: fp32 [T, K]. y: [T, K], any float dtype; None: nothing is added.
    """
    expect("x", solid("x", x), 2, torch.float32)
    expect_shape("gain", gain, x.shape[1])
    if y is not None:
        expect_shape("y", solid("y", y), *x.shape)
    found: tuple[Tensor, Tensor] = run("add_norm", x).add_norm(x, y, gain, eps, dtype)
    return found


def swiglu(y: Tensor) -> Tensor:
    """silu(gate) · up, gate before up, computed in fp32: [T, 2F] -> [T, F] in its dtype. For products of many rows."""
    expect("y", solid("y", y), 2)
    if y.shape[1] % 2:
        raise ValueError(f"{y.shape[1]} columns of gate and up; expected an even number")
    found: Tensor = run("swiglu", y).swiglu(y)
    return found


def keep(rows: Tensor, start: Tensor, table: Tensor) -> Tensor:
    """Rows into a table, in place, from `start` on: fp32 [R, K] into fp32 [S, K].

    start: int32 [1]. What would lie outside is written to the first or the last row.
    """
    expect("rows", rows, 2, torch.float32)
    expect("start", start, 1, torch.int32)
    if table.shape[1:] != rows.shape[1:] or table.dtype != rows.dtype:
        raise ValueError(f"rows {list(rows.shape)} for a table of {table.dtype} {list(table.shape)}")
    y: Tensor = run("keep", rows).keep(rows.contiguous(), start, solid("table", table))
    return y


def expect_product(
    x: Tensor, weight: Head, bias: Tensor | None, gain: Tensor | None = None, *, head: bool = False
) -> None:
    """That they fit each other. head: may the weight be one that only products with scores read?"""
    expect("x", x, 2)
    if isinstance(weight, Q8) and not head:
        raise ValueError("a weight as Q8_0 has it is read by a head's products alone")
    for part in parts_of(weight):
        solid("weight", part)
    rows, columns = shape_of(weight)
    if x.shape[1] != columns:
        raise ValueError(f"rows of {x.shape[1]} for a matrix of shape {[rows, columns]}")
    if bias is not None and list(bias.shape) != [rows]:
        raise ValueError(f"bias of shape {list(bias.shape)} for a matrix of shape {[rows, columns]}")
    if gain is not None and list(gain.shape) != [columns]:
        raise ValueError(f"gain of shape {list(gain.shape)} for rows of {columns}")


def _expect_keys(keys: Tensor, values: Tensor) -> tuple[int, int, int]:
    """The shape of a cache."""
    expect("keys", keys, 3)
    groups, capacity, width = keys.shape
    if values.shape != keys.shape or values.dtype != keys.dtype:
        raise ValueError(f"values {values.dtype} {list(values.shape)} for keys {keys.dtype} {list(keys.shape)}")
    if width % 32 or width & (width - 1):
        raise ValueError(f"heads of width {width}; expected a power of two, 32 or more")
    return groups, capacity, width


def _expect_cache(features: int, rotation: Tensor, keys: Tensor, values: Tensor, start: Tensor) -> None:
    """A cache, and what turns rows of so many features that go into it."""
    expect("rotation", solid("rotation", rotation), 2, torch.float32)
    expect("start", start, 1, torch.int32)
    groups, capacity, width = _expect_keys(solid("keys", keys), solid("values", values))
    if features % width or (features // width) % groups or features // width <= 2 * groups:
        raise ValueError(f"rows of {features} for {groups} groups of width {width}")
    if rotation.shape[0] < capacity or rotation.shape[1] != width:
        raise ValueError(f"rotation of shape {list(rotation.shape)}; expected {[capacity, width]}")
